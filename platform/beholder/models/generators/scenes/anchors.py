"""Phrases that teach the reader what each axis, medium and subject sounds like to a sentence encoder.

The reader fits one function per axis to these phrases (see `directions`). The other axes' phrases, the media's, the
subjects' and `NEUTRAL` count as "this axis is not spoken of", which is what keeps the axes apart. Phrases are
separated by semicolons; the two ends of an axis are built alike (night / day, cold place / hot place), so that what
they differ in is the axis and not the topic.
"""

from __future__ import annotations


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase for part in text.split(";") if (phrase := " ".join(part.split())))


ANCHORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bright": (
        _phrases(
            """
            bright; brightly illuminated; full daylight at noon; luminous and airy; radiant brilliance; sunlit; strong
            sunlight; pure and radiant; sunny; noonday; a sunny spring; brilliant; well illuminated; radiant heavens; a
            sunny terrace; snow in full sunlight; a bright room; aglow; backlit, radiant; bright rooms; a lightbulb
            switched on; luminosity; illuminated by floodlights; clear bright heavens; a flash of lightning; marble in
            sunlight; daytime; brightened; sunlight everywhere; sunrise; broad daylight; brightness; bright and
            cheerful; glistening sand; high-key exposure; a bright studio; too much exposure; chandeliers ablaze; a
            burst of sunlight; halogen; noontide; brilliant reflections; incandescent; electrically illuminated;
            snow-blind; sunlit meadow; dawn has broken; fresh and bright; radiance from above; clear cheerful daytime;
            light from all sides; the sun is high; daylight through a window; white and radiant; summer noon
            """
        ),
        _phrases(
            """
            dark; darkness at night; midnight; gloomy and dim; shadowy; moonlit; nocturnal; dimly illuminated; a dark
            room; shadows; nightfall; moonlight; nighttime; gloom; a darkened cellar; a cave in darkness; sombre
            darkness; twilight and dusk; an eclipse; a haunted graveyard at midnight; faint in the dark; streets at
            night; darkening storm; obscure and shadowed; sinister gloom; low-key chiaroscuro; nocturne; in the dark;
            charcoal-dark; dark and moody; underground; bedtime; dim; dark and scary; past bedtime; three o'clock at
            night; constellations above; the milky way; a lantern in the dark; a torch in a dark corridor; blackout; a
            dungeon; a crypt; after nightfall; once it got dark; underexposure; a vampire castle; a dim alley; somber;
            fireflies at night; lit only by the moon; illuminated by the moon alone; only moonbeams; the sun has set;
            late evening; candles in a dark church; sundown and dusk; a weak lamp in the dark; under a crescent moon;
            night has come
            """
        ),
    ),
    "warm": (
        _phrases(
            """
            warm; warm golden orange; amber and red; fiery; sunset; autumn foliage; a burning bonfire; yellow, orange
            and brown; the warmth of a lantern; hot and sunburnt; crimson and gold; campfire; warmth; a hot country;
            bronze, gold and red; scarlet and orange; molten lava; flames; a fireplace; pumpkins; sunset in the
            savanna; reddish; brick red and brown; colors of spices; toasted; warm sunlight; burnt orange; tan and
            caramel; burning torches; october harvest; marigold; mahogany; sweltering; golden; topaz; ruby; saffron;
            paprika; chestnut brown; brandy; Tuscany; Morocco; a stove; brass; sandstone; coals; tangerine; red wine;
            a lion in the savanna; low golden sunlight
            """
        ),
        _phrases(
            """
            cold; cool blue; icy; winter snow; frosty and chilly; arctic cold; teal and blue; a freezing lake;
            icebergs; blue and cyan; bitterly cold wind; wintry; cool bluish green; frost and ice; coldness; cool;
            blue; bluish; winter storm; december frost; mint and blue; navy blue; indigo; an ice cave; Antarctica; a
            cold country; Greenland; shivering; snowflakes; cold water; azure; permafrost; ocean blue; penguins; lapis
            lazuli; emerald and blue; jade; pewter; Alaska; Lapland; hail; a fjord; sleet; a refrigerator; lavender
            and blue; tundra; december; a ski slope; underwater; raw north wind
            """
        ),
    ),
    "vivid": (
        _phrases(
            """
            vivid; vivid saturated color; bold and colorful; vibrant; neon; intense color; brilliantly colored; highly
            saturated; multicolored and gaudy; hot pink, green and violet; garish, loud color; a parrot's feathers;
            bursting with color; rich color; strong color; bold primary color; red, yellow, blue and green together;
            fluorescent; neon signs; flamboyant; tie-dye; candy-colored; exotic flowers; flashy; showy; acid green and
            pink; fireworks; vibrancy; intense red; bright purple; mardi gras; peacock; hyper-saturated; Matisse;
            Bollywood; Holi powder; graffiti; gummy bears; a hummingbird; an arcade machine; highlighter pens;
            expressionist color; Kandinsky; ruby and emerald; fruit candy; a toucan; batik; disco; wild, clashing
            color
            """
        ),
        _phrases(
            """
            muted; muted grey; faded; desaturated; pale and washed out; monochrome; dull and colorless; grayscale;
            pastel; without color; greyish; restrained, weak color; pallid; a pale parrot; lacklustre color; faint
            color; fading; pale grey; gray fog; ashes; bland; pastel pink and blue; tarnished; flowers that lost their
            color; a discolored print; faded fabric; low saturation; desaturation; soft greys; ash grey; anaemic; faded
            wallpaper; monochromatic; worn out color; an albumen print; pencil; cement; putty; sackcloth; driftwood
            grey; ivory and bone; stone grey; tea-stained paper; wartime newsreel; a skeleton; mousy; Morandi; oatmeal;
            lifeless; tired, weak color; tinted brown like an early photograph; grey on grey; a grayscale picture;
            colors drained away
            """
        ),
    ),
    "rough": (
        _phrases(
            """
            rough; rugged and coarse; gritty; craggy; stormy; choppy sea; heavily textured; rocky ground; worn, chipped
            and scarred; violent wind and storm; turbulent; rusty and eroded; ruggedness; coarse; bumpy; raging waves;
            thunderstorm; broken stone; sandpaper; burlap; boulders; rough terrain; scarred; abrasive; crusty; grungy;
            turbulence; rapids; thorny; wrinkled; splintered wood; tattered; roughness; granite; lava rock; elephant
            skin; crocodile hide; tweed; a tornado; a squall; foaming breakers; brambles; unshaven; cobblestones;
            driftwood; plowed soil; a shipwreck; blistered metal; coarse brushwork; thick relief of paint; a wild,
            rugged coast; gale; weathered rock
            """
        ),
        _phrases(
            """
            smooth; calm; sleek and polished; silky; glassy water; still and serene; smooth as marble; quiet and calm;
            smooth all over; glossy; a calm sea; serenity; smoothly blended; gentle stillness; smoothness; calmness;
            still water; silk; polished stone; sleek; undisturbed; a quiet pond; smoothed wood; level ground; varnished;
            chrome; flat calm; ironed; seamless; soft young skin; restful; waxed; slick; ceramic glaze; a pearl; an ice
            rink; a new car body; a pebble; meditation; contentment; soap; plastic; water at rest; doldrums; breathless
            quiet; spotless; immaculate; cashmere; sanded; smooth gradients; a retouched, smooth surface; not a breath
            of wind; windless; mirror-smooth; smooth skin
            """
        ),
    ),
    "busy": (
        _phrases(
            """
            busy; crowded; crowded with many items; intricate detail; ornate decoration; elaborate; cluttered; full of
            countless items; a busy crowd; dense; lots of activity; lavishly decorated; chaotic abundance; lush and
            dense; festival crowds; clutter; detailed; intricately patterned; ornate; richly decorated; a crowded room;
            traffic congestion; a flea fair; a messy workshop; full of life; abundance; piles of goods; overcrowded;
            overgrown; tapestry; rococo; countless; rush; a busy kitchen; a bazaar; a stadium full of fans; Bosch and
            Bruegel; crammed bookshelves; Times Square; an ant hill; confetti; a wedding procession; embroidery;
            arabesque tracery; carved all over; a shop full of antiques; a toy collection; collage; patchwork;
            complicated; full of small details; countless tiny details; rich in detail; every corner is filled; a
            multitude of things; hustle and bustle; one thing beside another
            """
        ),
        _phrases(
            """
            minimal; minimalist; empty; sparse; simple and uncluttered; bare; a lot of empty space; plain and simple;
            lonely; simplicity; without visitors; clean and plain, few elements; emptiness; undecorated; nobody; void;
            solitude; alone; barren; only one item; negative space; uncomplicated; spare; an empty room; abandoned;
            isolated; unfurnished; unadorned; plain; desolate; monastic; an empty street; a bare kitchen; a void; a
            monk's cell; a Japanese rock garden; Rothko; a moon landscape; few strokes; a ghost town; a cleared table;
            one chair in a room; unpeopled; tidy; basic; unoccupied; clean design; a lone figure; wasteland; nothing but
            the subject; few things; with little in it; reduced to the essence; no one and nothing around
            """
        ),
    ),
    "close": (
        _phrases(
            """
            close; close-up; extreme closeup; macro; very near; near and large; towering; a macro of the details;
            nearby, in the foreground; up close and personal; enormous in the foreground; face to face; near; nearby;
            next to the camera; magnified; microscope; enlarged; very large; huge; gigantic; close to the lens; you can
            see each hair; a face close up; at close quarters; leaning in; big and imposing; extreme macro of a bee;
            telephoto close-up of a face; giant; holding it in the hand; beside me; proximity; standing next to it;
            coming closer; telephoto; eyelashes; stamens of one flower; a leaf enlarged; detail of skin; big as a house;
            looking straight into the eyes; an ant seen huge; just a step from me; it takes up everything; the subject
            occupies all the space; big; a whisper in the ear; fingertips; a hand's breadth apart; monumental and
            overwhelming; filling the frame; frame-filling; a detail shot; eye to eye; a bust; palpably near; the camera
            moves in; an enlargement; so near that one could touch it; a magnifier; seen from nearby; close range
            """
        ),
        _phrases(
            """
            distant; far off; wide angle; panorama; tiny in the distance; vast expanse; a wide panoramic landscape;
            distant overview; from a great distance; far; far behind; high up in an airplane; far apart; an endless wide
            open plain; distance; wide; panoramic; vast; immense landscape; from outer space; a helicopter flying over
            the land; as tiny as an ant; a dot in the distance; a very wide angle; overlooking the valley; on the far
            side of the lake; barely recognisable in the distance; the planet from orbit; tiny and distant; expansive;
            the whole region; a map; standing far from it; moving further and further; from the top of a tower; from a
            balcony far up; diminutive; the other shore; beyond the fields; at the end of a long road; a scenic lookout;
            countryside stretching out; out of reach; kilometres of coast; across the bay; overview of everything; the
            curve of the globe; a steppe; a landscape with tiny staffage; a plane above the country; seen from high
            above; the camera pulled back; zooming away; looking down from the sky; from the clouds; a long shot; a wide
            shot; as far as one can see; from a mountaintop; surveyed from above; small in a large landscape; seen
            across the plain; the far horizon; the view from an airliner
            """
        ),
    ),
    "soft": (
        _phrases(
            """
            soft; soft and hazy; misty; foggy; dreamy; blurry; blurred and indistinct; ethereal; gentle mist; hazy fog;
            a soft dreamlike blur; vapour; delicate; unfocused; softness; haze; mist; fog; dream; dreamlike; blur;
            diffuse; gentle; fuzzy; a hazy picture; faint and delicate; ghostly; vague; feathery; romantic blur; motion
            blur; fluffy; subtle; misted; soft transitions; blurred outline; soap bubbles; chiffon; tulle; through
            tears; a memory; shallow depth of field; long exposure of moving water; pictorialism; Turner's hazy
            seascapes; dandelion fluff; down feathers; breath on a cold pane; candy floss; sleepy; dissolving into each
            other; a halo; blended transitions without outlines; smoky; softly lit; a veiled view; tender; whispering
            """
        ),
        _phrases(
            """
            crisp; sharp; sharp borders; clear and precise; stark; in sharp detail; well defined; high definition;
            precise and exact; crisply defined; sharp shadows; sharpness; crispness; clear; precision; a sharp picture;
            sharp blades; needle-sharp; detailed and sharp; clearly recognisable; defined outline; clean borders;
            strong, stark shadows; extremely sharp; exact; transparent and clear; spike; metal blades; spiky; vector
            graphics; technical precision; in perfect sharpness; clearly delineated; an engraver's precision;
            flashlight, stark; surgical; hyperrealistic detail; blades of grass one can count; diamond; splinters;
            icicles; a sword; barbed wire; scissors; noon shadows; stencil; exactly delineated; sharp letters in print;
            steely sharpness; strong contrast; crisp clean edges; high resolution; sharply cut; bold outlines; fine
            sharp lines
            """
        ),
    ),
    "organic": (
        _phrases(
            """
            organic; flowing curves; rounded; natural shapes; wavy; swirling; fluid; curved and flowing; organic growth;
            winding and twisting; swirls; graceful curved shapes; biomorphic; roots; curves; curvy; curved outline;
            flow; flowing; natural; round; swirl; waves; soft round shapes; plants growing; ivy; seaweed; coral; amoeba;
            mushrooms; looping; bending; liquid; lava; curved buildings; naturalistic decor; jellyfish; octopus arms;
            snakes; ferns unfolding; dunes rounded by wind; billowing cloth; hair in the wind; marbling; scrolls;
            arabesques; jugendstil; dripping; clay shaped by hand; calligraphic swirl; eddies; whiplash curves; winding
            lines; plant-like ornament; flowers and stems; whirling; curled; a shell; an undulating roof; billowing
            """
        ),
        _phrases(
            """
            geometric; angular; straight; cubist; polygonal; square; faceted; geometric shapes; angular facets; straight
            parallel rows; rectangles and squares; rigid geometry; mathematical and symmetrical; boxy; geometry; angles;
            square outline; straight borders; polygon; hexagons; rectangular; rigid; linear; cubism; checkerboard;
            parallel; pyramids; mosaic; blueprint; bricks; symmetry; planes; rectangular buildings; geometric decor;
            skyscraper facade; a spreadsheet; a chessboard; a futurist machine; De Stijl; tangram; Rubik's puzzle;
            wireframe; eighties video game; crystal lattice; minecraft; papercraft; circuit board; stacked containers;
            gemstone facets; zigzag; strict straight lines; folded paper; ruled lines; concrete blocks; blocks and
            cubes; crystals; an abstract grid painting
            """
        ),
    ),
}
"""axis: (phrases of the high end, phrases of the low end)."""

MEDIA_ANCHORS: dict[str, tuple[str, ...]] = {
    "photo": _phrases(
        """
        a photo; a photograph; a photograph taken with a camera; analogue photography; DSLR photo; a snapshot; shot on
        film; a photo on Kodak film; photographed with a reflex camera; a photojournalist's picture; a press photo;
        photorealistic; a real photograph; an exposure on film; a documentary photo; a Polaroid; a Leica; taken with a
        phone; a National Geographic photo; a selfie; the photographer's negative
        """
    ),
    "watercolour": _phrases(
        """
        watercolour; a watercolor painting on paper; wet washes of pigment on paper; aquarelle; watercolour on paper;
        loose watercolour washes; watercolor blooms and wet paper; a gouache; thin, watery paint; a wash of watercolor;
        wet-in-wet; painted with watercolors; translucent washes; thin, bleeding washes of colour; Winslow Homer's
        watercolors; a wash drawing; wet paint running on paper
        """
    ),
    "oil": _phrases(
        """
        oil painting; oil on canvas; thick brush strokes of oils; impressionist canvas; impasto; thick brush strokes on
        canvas; painted in oils; an old master's canvas; a painting by Rembrandt in oils; a museum oil painting; thick
        oil paint; brush strokes of thick paint; acrylic on canvas; Van Gogh; a Monet; painted on canvas; visible
        brushwork; tempera; a fresco; a Renaissance master's painting
        """
    ),
    "ink": _phrases(
        """
        ink drawing; pen and ink; an engraving; an etching; a woodcut print; a crosshatched sketch; a fine pen etching;
        drawn with a pen; a lithograph in black ink; a linocut; a pen sketch; line drawing; hatching; a nib and India
        ink; a copperplate print; an illustration in black ink; a lithograph; a charcoal drawing; a pencil drawing; a
        print by an old master engraver; quill; drypoint; a ballpoint doodle; a comic in ink
        """
    ),
}

SUBJECT_ANCHORS: dict[str, tuple[str, ...]] = {
    "mountain": _phrases(
        """
        a mountain; a snowy mountain peak above a lake; high rocky mountains; hills and a valley; the Himalayas; Mont
        Blanc; Mount Fuji; the Rocky Mountains; a mountain lake; a mountain pass; a steep rock face with climbers; a
        fjord between steep slopes; a crater; a mountain range; rolling hills; a massif; Everest; Kilimanjaro; the
        Andes; the Alps
        """
    ),
    "lighthouse": _phrases(
        """
        a lighthouse; a lighthouse on a rocky coast; a coastal light tower for ships at sea; a beacon on a rocky
        headland; a lantern room above the waves; a light that warns seafarers; a light on the headland; a revolving
        light at night over the sea; the Pharos of Alexandria; a lighthouse keeper; a foghorn and a light tower
        """
    ),
    "tree": _phrases(
        """
        a tree; a single old tree in a meadow; a fruit tree with leaves and branches; a maple by a field path; a beech;
        an apple tree in flower; an elm; a bonsai; a palm tree; the crown of a chestnut; a lone tree on a plain; an ash
        tree; the trunk and the boughs; a baobab; a plane tree; a plum tree in spring; a poplar; a fig tree; an almond
        tree
        """
    ),
    "skyline": _phrases(
        """
        a city skyline; skyscrapers; city streets and tall buildings; a modern town from afar; New York; Hong Kong;
        Chicago; Shanghai; an urban scene; office towers; the financial district; a capital city; rooftops of a town;
        traffic between high buildings; a harbour city of towers; London; Berlin; Dubai; Singapore; Paris
        """
    ),
    "boat": _phrases(
        """
        a boat; a sailing boat on the sea; ships in the port; a fishing vessel; rowing on the water; a canoe; a
        schooner; a regatta; a ferry; a steamship; a rowing boat; a frigate under sail; a marina with masts; a
        catamaran; a sailor on deck; a gondola; a sailing ship with three masts; a pirate ship; a vessel anchored in a
        bay; a submarine
        """
    ),
    "house": _phrases(
        """
        a house; a cottage in the countryside; a farmhouse with a garden; a historic building; a palace; a mansion; a
        bungalow; a chalet; a log cabin; a country home; a chapel; a village church; a temple; a homestead; a fortress;
        a lodge; a stable
        """
    ),
    "still_life": _phrases(
        """
        a still life; flowers in a vase; a bowl of fruit; food and drink on the table; cups; apples on a plate; a wine
        bottle and grapes; a bunch of flowers; a teapot; bread and cheese; a basket of plums; oranges on a tray;
        sunflowers in a pitcher; a meal laid out; a bouquet in a jug on a cloth; objects on a table
        """
    ),
    "forest": _phrases(
        """
        a forest; a path through the woods; many trees in the wilderness; rainforest; a wooded path; spruce and fir;
        undergrowth; a bamboo thicket; moss between trunks; the Black Forest; a woodland clearing; deer between the
        trees; hikers in the woods; a beech wood
        """
    ),
    "windmill": _phrases(
        """
        a windmill; a windmill in tulip fields; mills in the Netherlands; windmill blades spinning; a mill; a mill above
        rows of flowers; a miller; the sails of a mill; Kinderdijk; Don Quixote's giants; tulip rows; flower fields; a
        wind-powered mill; a mill on a dike; wind power
        """
    ),
    "bridge": _phrases(
        """
        a bridge; a stone bridge over a river; a suspension bridge; arches across a river; a footbridge; a drawbridge;
        the Rialto; a railway crossing a valley on arches; Tower Bridge; pillars and arches over a canal; the Pont du
        Gard; an aqueduct over still water; Brooklyn Bridge; an arched span; a long cable bridge across a strait; Sydney
        Harbour Bridge; London Bridge; Charles Bridge in Prague
        """
    ),
    "desert": _phrases(
        """
        a desert; sand dunes; a cactus in the desert; an oasis in dry, sandy land; the Kalahari; cactuses in the
        badlands; Death Valley; barren, dry land; sandy plains; the Namib; a mesa; a Bedouin; a sandstorm; a dry canyon;
        Monument Valley
        """
    ),
    "balloon": _phrases(
        """
        a hot air balloon; balloons in the sky; flying in a balloon; an aircraft lighter than air; a blimp; a dirigible;
        a gas balloon; an aeronaut; a balloonist; floating upwards in a wicker basket; a balloon festival; ballooning;
        balloons drifting over the land; the Goodyear blimp; ascending by balloon; a floating airborne craft
        """
    ),
}
"""subject: phrases; the nearest ones decide what is drawn."""

NEUTRAL = _phrases(
    """a dog; a woman; an old man; a child playing; a car; a horse; a bird; a cat on a chair; a garden; a village;
    a street; a river; a lake; the sea; a beach; a church; a train; a market; a field; the sky; clouds; grass; a robot;
    an astronaut; a dragon; music; a story; science fiction; history; beautiful; award winning; masterpiece; trending;
    high quality; by a famous artist; in the picture; a scene; in the background; on the left; style; art; a painting;
    an illustration; a digital render; a view; mood; atmosphere; colors; lighting; texture; composition; tones; fantasy;
    vintage; a poster; cinematic; romantic; mysterious; happy; sad; ancient; modern; Japan; Italy; morning; evening;
    the weekend; five; wood; metal; stone; fabric; a window; a door; a road; surfaces; palette; hues; shades; lines"""
)
"""Phrases that ask for no axis: things, places, praise and the generic words of prompts."""
