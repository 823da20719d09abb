"""What is known of each public data set: its title, licence and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """A public data set.

    Attributes
    ----------
    title : str
    licence : str
        Of the data, as its publishers state it; the user is bound by it.
    source : str
        Where it is published.
    kind : `ratings` or `comparisons`
    """

    title: str
    licence: str
    source: str
    kind: str


ABOUT = {
    "avt": About(
        "AVT AI images",
        "GPL-3.0",
        "github.com/Telecommunication-Telemedia-Assessment/avt_ai_images",
        "ratings",
    ),
    "csv": About("any set of rated images", "its own", "a mapping file", "ratings"),
    "eva": About("EVA", "CC0 1.0; the photographs are their authors'", "github.com/kang-gnak/eva-dataset", "ratings"),
    "flickr_aes": About(
        "FLICKR-AES",
        "Creative Commons photographs; none stated for the ratings",
        "github.com/alanspike/personalizedImageAesthetics",
        "ratings",
    ),
    "hpdv2": About(
        "HPDv2, with raters",
        "Apache-2.0",
        "huggingface.co/datasets/ymhao/HPDv2, huggingface.co/datasets/aniketr/hpdv2-test-no-embeds",
        "comparisons",
    ),
    "hpdv3": About(
        "HPDv3, HPDv3++",
        "MIT; HPDv3++ Apache-2.0",
        "huggingface.co/datasets/MizzenAI/HPDv3, huggingface.co/datasets/Junjun2333/HPDv3-PlusPlus",
        "comparisons",
    ),
    "imagerewarddb": About("ImageRewardDB", "Apache-2.0", "huggingface.co/datasets/THUDM/ImageRewardDB", "comparisons"),
    "lapis": About("LAPIS", "access on request", "github.com/Anne-SofieMaerten/LAPIS", "ratings"),
    "pamela": About("PAMELA", "CC BY 4.0", "huggingface.co/datasets/bethgelab/PAMELA", "ratings"),
    "para": About("PARA", "research terms of the site", "cv-datasets.institutecv.com", "ratings"),
    "pickapic": About(
        "Pick-a-Pic v2",
        "see the card: it could not be read when this was written",
        "huggingface.co/datasets/yuvalkirstain/pickapic_v2",
        "comparisons",
    ),
}
"""By the name of the reader."""
