"""The words the prompt reader knows by heart: axis words, modifiers, media and the subjects' plain names.

A listed word gives a push, not the answer: its clause's other words and the sentence encoder also count (`reading`).
"""

from __future__ import annotations

from collections.abc import Mapping

AXIS_WORDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    axis: (frozenset(high.split()), frozenset(low.split()))
    for axis, (high, low) in {
        "bright": (
            "bright brilliant sunny sunlit daylight daytime noon luminous radiant airy illuminated",
            "dark dim gloomy shadowy shadow night midnight moonlit moonlight nocturnal dusk dusky darkness",
        ),
        "warm": (
            "warm warmth golden amber orange fiery red crimson sunset autumn autumnal",
            "cold cool blue icy frosty chilly arctic winter wintry teal cyan",
        ),
        "vivid": (
            "vivid vibrant saturated bold colourful colorful neon intense fluorescent",
            "muted faded pale pastel grey gray greyscale grayscale desaturated monochrome dull colourless colorless",
        ),
        "rough": (
            "rough rugged coarse gritty craggy stormy choppy turbulent weathered textured",
            "smooth calm sleek silky polished glassy serene glossy",
        ),
        "busy": (
            "busy crowded cluttered detailed intricate ornate elaborate bustling dense lush ornamented",
            "minimal minimalist minimalistic minimalism empty sparse simple bare uncluttered lonely",
        ),
        "close": (
            "close closeup close-up macro near nearby towering huge foreground",
            "distant distance far faraway wide panoramic panorama vast tiny",
        ),
        "soft": (
            "soft hazy haze misty mist foggy fog dreamy blurry blurred ethereal gentle",
            "crisp sharp sharpness clear precise stark hard-edged",
        ),
        "organic": (
            "organic flowing curved curvy rounded wavy swirling fluid natural",
            "geometric geometrical angular straight cubist polygonal faceted square blocky",
        ),
    }.items()
}
"""axis: (words of the high end, words of the low end)."""

MODIFIERS: Mapping[str, float] = {
    "very": 1.35, "extremely": 1.5, "intensely": 1.5, "really": 1.35, "strongly": 1.35, "more": 1.2, "quite": 0.9,
    "fairly": 0.8, "rather": 0.8, "somewhat": 0.6, "slightly": 0.5, "faintly": 0.5, "mildly": 0.5, "subtly": 0.5,
    "bit": 0.5, "touch": 0.5, "hint": 0.5, "little": 0.6,
}  # fmt: skip
"""What follows in the clause asks for this much of the usual. `bit`, `touch`, `hint` and `little` only after an a."""

NEGATIONS: Mapping[str, float] = {
    "not": -0.8, "no": -0.8, "without": -0.8, "never": -0.8, "non": -0.8, "lacking": -0.8,
    "neither": -0.8, "nor": -0.8, "isn't": -0.8, "less": -0.6, "hardly": -0.6, "barely": -0.6, "scarcely": -0.6,
}  # fmt: skip
"""What follows in the clause counts this much, that is, mostly for the other end."""

MEDIA_WORDS: Mapping[str, frozenset[str]] = {
    "photo": frozenset(["photo", "photograph", "photography", "photographic", "camera", "lens", "dslr", "35mm"]),
    "watercolour": frozenset(["watercolour", "watercolor", "watercolours", "watercolors", "aquarelle", "gouache"]),
    "oil": frozenset(["oil", "oils", "impasto", "impressionist", "acrylic"]),
    "ink": frozenset(["ink", "pen", "engraving", "etching", "woodcut", "linocut", "sketch"]),
}

SUBJECT_NAMES: Mapping[str, frozenset[str]] = {
    "mountain": frozenset(["mountain", "mountains", "peak", "alps", "lake", "hill", "hills", "valley"]),
    "lighthouse": frozenset(["lighthouse", "lighthouses"]),
    "tree": frozenset(["tree", "oak-tree"]),
    "skyline": frozenset(["skyline", "city", "skyscraper", "skyscrapers", "town", "street"]),
    "boat": frozenset(["boat", "boats", "sailboat", "ship", "ships", "sea"]),
    "house": frozenset(["house", "houses", "cottage", "farmhouse", "hut"]),
    "still_life": frozenset(["still-life", "vase", "fruit", "flowers", "bouquet", "bottle"]),
    "forest": frozenset(["forest", "wood", "woods", "trees", "rainforest"]),
    "windmill": frozenset(["windmill", "windmills", "tulips"]),
    "bridge": frozenset(["bridge", "bridges"]),
    "desert": frozenset(["desert", "dune", "dunes", "cactus"]),
    "balloon": frozenset(["balloon", "balloons"]),
}
"""Names that suggest a subject; of two subjects named, the earlier word wins unless the encoder objects."""
