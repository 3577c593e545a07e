"""English sentences of five to nine words from a small grammar.

The word lists and the templates were written for this project. The sentences are grammatical but
rarely meaningful, and contain all phones of English. There are several billion sentences, so
repetitions are rare.
"""

import re

import numpy as np

WORDS = {
    name: tuple(words.replace("\n", " ").split())
    for name, words in {
        "det": "the the the a a this that every my your his her our their another one",
        "dets": "the the these those some many few several most all our your their two three four "
        "five six seven eight nine ten eleven twelve thirty forty",
        "noun": """
            actor airport album animal answer apple arm army artist autumn baby badge bag banker
            banjo barber basket beach bear bed bell bench bird bishop boat book bottle bowl boy
            branch bridge brother bucket bus butcher button cabin cage cake camel camera candle
            captain car carpet castle cat chair cheese chef cherry chicken child choir church
            circle clerk cloud coach coat coin college cook corner couch cousin cow crown cup
            curtain daughter deer dentist desk doctor dog dollar donkey door dragon drawer dream
            driver drum duck eagle ear egg elbow engine eye face farmer father feather fence
            finger fire fish flag floor flower fork fountain fox friend frog garage garden gate
            ghost giant gift giraffe girl glove goat guard guest guitar hammer hand hat hedge
            horse hotel hunter island jacket jar jewel joke journal journey judge juggler jug
            key king kitchen kite ladder lake lamp lawyer leaf lemon leopard letter library light
            lion lizard lock machine magpie map market mayor measure meadow medal mirror monkey
            moon mother mountain mouse mouth museum nephew net nose notebook nurse ocean office
            onion orange orchard oven owl oyster palace paper parrot path peach pencil piano
            picture pig pillow pilot pirate plane planet plate pocket poem poet pond pony pot
            prince puppet puzzle queen question rabbit radio razor river road robin rocket roof
            room rope rose sailor sandwich saucer school sheep ship shirt shoe shop shovel shower
            singer sister snake soldier song spider spoon squirrel stable star station stone
            storm story stove stranger stream suitcase summer table tailor teacher thief throne
            thumb ticket tiger toad tooth towel tower town toy train treasure tree truck turkey
            turtle uncle valley vase village violin visitor voice wagon waiter wall watch wheel
            whistle window winner wizard wolf woman yacht youth zebra zoo""",
        "nouns": """
            actors apples badges bananas beaches bears birds blankets boats books boxes boys
            bridges brothers buttons cages cars cats chairs chicks children choices churches coins
            cooks cousins dancers dishes doctors dogs doors dreams ducks ears engines eyes farmers
            fathers feathers fingers foxes friends gardens geese gloves hills horses houses jokes
            judges keys kings knives ladies leaves lions maps measures men mice monkeys mothers
            mushrooms noises nurses oranges owls oysters pages peaches pictures pigeons pilots
            plums poems potatoes prizes puppies rivers roads roses sailors sheep ships shoes
            singers sisters songs soldiers spiders stairs stars stones teachers things thieves
            tourists toys trains treasures trees turnips uncles villages voices watches wheels
            windows wishes wolves women years zebras""",
        "mass": """
            beauty beer bread butter cheese chalk coal coffee fruit gold honey ice ink jam juice
            leather milk music noise oil paint paper pepper poison poultry rice salt sand silver
            smoke snow soap soup steam sugar sunshine tea thread toast treasure water wine wool""",
        "name": """
            Adam Agatha Albert Alice Andrew Anna Arthur Barbara Beth Boris Brian Carol Charles
            Claire Daisy David Dora Edith Edward Emma Ethan Felix Fiona Frank George Gina Grace
            Hannah Harold Harry Helen Hugo Ivan Jack James Jane Jason Joan John Joyce Judith
            Julia Karen Kate Kevin Laura Leo Linda Louis Lucy Margaret Mark Martha Martin Mary
            Matthew Molly Nancy Nathan Nora Olga Oscar Patrick Paul Peter Philip Rachel Ralph
            Richard Robert Roger Rosa Roy Ruth Sarah Shirley Simon Sophie Stephen Susan Thelma
            Theo Thomas Tony Ursula Vera Victor Violet Walter Wendy William Yvonne Zoe""",
        "adj": """
            ancient angry awful bad beige better big bitter black blue boring brave bright broad
            broken brown busy careful cautious cheap cheerful clean clever cold common cool crooked
            cruel curious curly dark dear deep dirty dry dusty eager early easy elder empty enormous
            famous fast fat fierce fine foolish foreign fresh funny gentle glorious golden good
            gray great green handsome happy hard healthy heavy high hollow huge hungry icy
            innocent jealous jolly joyful kind large lazy little lonely long loud lovely low loyal
            lucky mature merry mighty modern muddy narrow nasty naughty near new nice noisy odd
            old orange ordinary pale patient peculiar perfect plain pleasant polite poor pretty
            proud pure purple quick quiet rare ready red rich rough round royal rude rural sad
            sharp shiny short shy silent silly simple small smart smooth sour square stern
            strange strong sure sweet tall tame thick thin thirsty tiny tired ugly unusual
            vague various warm weak weary wet white wicked wide wild wise wooden yellow young""",
        "past": """
            admired asked avoided bought borrowed brought broke brushed called carried caught
            changed chased checked chose cleaned cooked counted covered crossed described destroyed
            discovered dragged drew dropped enjoyed examined fetched filled finished followed fixed
            forgot found gathered grabbed guarded heard helped hid ignored imagined invited joined
            judged kept kicked knew lifted liked lost loved made measured mentioned missed moved
            needed noticed offered opened ordered painted passed photographed picked pleased praised
            prepared pulled punished pushed raised remembered repaired replaced rescued
            saved saw sketched shook showed smelled sold started stole stopped studied taught
            thanked threw touched trusted used visited wanted warned washed watched welcomed""",
        "base": """
            accept admire avoid borrow break bring brush buy carry catch change chase choose clean
            cover describe destroy draw enjoy examine explain fetch find finish fix follow forget
            gather guard hear help hide hold ignore imagine join judge keep leave lift like lose
            love make measure mention miss move need notice offer open order paint pass pull
            punish push raise reach remember repair replace save see sell share show steal stop
            study teach thank touch trust use visit want warn wash watch welcome""",
        "went": """
            appeared arrived barked cheered climbed coughed crawled cried danced disappeared drifted
            fell floated flew giggled hesitated hurried jumped knelt laughed leaned marched moved
            paused played prayed rested rolled rushed sailed sang sat screamed shouted shivered
            sighed slept slipped smiled sneezed snored spoke stood stayed swam traveled trembled
            turned vanished waited walked wandered waved went wept whispered worked yawned""",
        "go": """
            argue arrive begin change climb dance disappear drive fall fly gather go hide hurry
            jump laugh leave listen live march meet pause play rest return run sail shout sing
            sit sleep smile speak stand stay swim talk travel turn vanish wait walk work worry""",
        "doing": """
            breaking bringing brushing buying carrying catching choosing cleaning cooking counting
            covering describing drawing enjoying fetching finding fixing following guarding hiding
            holding judging joining leaving lifting losing making measuring moving opening ordering
            painting passing pulling pushing reading saving selling sharing showing stealing
            teaching touching using visiting washing watching wearing welcoming""",
        "adv": """
            again already always badly barely bravely carefully clearly closely exactly finally
            firmly gently gladly happily hardly loudly merely nearly never nicely often once
            patiently politely poorly proudly quickly quietly rarely really roughly sadly seldom
            simply slowly smoothly softly sometimes soon strangely suddenly surely usually""",
        "prep": """
            above across after against along around at before behind below beneath beside beyond by
            for from in inside into near of on outside over past round through toward under with
            without""",
        "time": """
            today tonight tomorrow yesterday now here there upstairs downstairs outside everywhere
            anyway together forever""",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Easter Christmas",
        "month": "January February March April May June July August September October November "
        "December",
        "when": "after before during until since",
        "event": """
            breakfast lunch dinner school church midnight noon winter summer spring sunset sunrise
            dawn work practice""",
        "pron": "I you he she we they it",
        "pron3": "he she it",
        "subj": "I you we they",
        "obj": "me you him her us them it",
        "modal": "can could will would should must might may shall",
        "neg": "cannot couldn't won't wouldn't shouldn't didn't mustn't",
        "link": "and but so because while when until unless though or",
        "wh": "why how when where",
        "num": """
            two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
            sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty
            ninety""",
    }.items()
}

TEMPLATES = tuple(
    template.strip()
    for template in """
    {name} {past} {det} {adj} {noun}.
    {pron} {adv} {past} {adj} {nouns}.
    {dets} {nouns} {modal} {go} {time}.
    {det} {adj} {noun} {past} {det} {noun}.
    {det} {adj} {noun} {past} {det} {adj} {noun}.
    {det} {noun} {past} {dets} {adj} {nouns}.
    {det} {noun} {adv} {past} {det} {noun} {time}.
    {det} {noun} {went} {prep} {det} {adj} {noun}.
    {det} {noun} {went} {prep} {name} and {name}.
    {det} {adj} {adj} {noun} {went} {prep} {name}.
    {det} {noun} {prep} {det} {noun} {went} {adv}.
    {det} {noun} {prep} {det} {noun} {past} {mass}.
    {det} {noun} and {det} {noun} {went} {time}.
    {det} {noun} was {doing} {dets} {nouns} {time}.
    {det} {noun} is {adj}, but {pron3} {past} {mass}.
    {det} {noun} with the {adj} {nouns} {went} {adv}.
    {det} {noun} that {pron} {past} was {adj}.
    {det} {adj} {noun} and {name} {past} {det} {adj} {noun}.
    {dets} {nouns} {prep} {det} {noun} {went} {prep} {name}.
    {det} {noun} whom {name} {past} was never {adj}.
    {dets} {nouns} {went} {prep} {det} {noun}.
    {dets} {adj} {nouns} {past} {det} {noun} {adv}.
    {dets} {adj} {nouns} were {doing} {mass} {time}.
    {dets} {nouns} and {nouns} {past} {name} {time}.
    {name} {past} {det} {noun} {prep} {det} {noun}.
    {name} {past} {dets} {nouns} {prep} {name}.
    {name} {adv} {past} {mass} and {mass}.
    {name} and {name} {modal} {base} {det} {noun}.
    {name} {neg} {base} {dets} {adj} {nouns}.
    {name} {modal} {go} {when} {event} on {day}.
    {name} is {adj} and {name} is {adj}.
    {name}, {name} and {name} {past} the {adj} {nouns}.
    {name} said that {pron} {past} {det} {noun}.
    {name} gave {obj} {num} {nouns} in {month}.
    {name} told {obj} about the {noun} of {noun}.
    {pron} {past} {det} {noun} {link} {name} {went}.
    {pron} {went} {adv} {link} {pron} {past} {obj}.
    {pron} {adv} {past} {obj} {when} {event}.
    {pron} {past} {mass}, {mass} and {adj} {nouns}.
    {pron} {modal} {base} the {noun} of {det} {noun}.
    {pron} {modal} not {go} {prep} {det} {noun}.
    {subj} {neg} {base} {obj} {when} {event}, {name}.
    {subj} were {doing} {mass} {prep} {det} {adj} {noun}.
    {subj} have {num} {adj} {nouns} and {num} {nouns}.
    {pron3} was {adj}, {adj} and never {adj}.
    {pron3} was {doing} {det} {noun} {when} {event}.
    {when} {event}, {det} {noun} {past} {name}.
    {when} {event}, {pron} {went} {prep} {det} {noun}.
    on {day}, {name} {past} {dets} {nouns}.
    in {month} {dets} {nouns} {went} {adv}.
    {adv}, {det} {adj} {noun} {went} {time}.
    {modal} {subj} {base} {det} {noun} {prep} {noun}?
    {modal} {name} {base} {num} {nouns} {when} {event}?
    did {det} {adj} {noun} {base} {det} {noun}?
    did {name} or {name} {go} {prep} {name}?
    {wh} did {name} {base} {dets} {adj} {nouns}?
    {wh} {modal} {pron3} {go} {prep} {det} {noun}?
    who {past} {det} {adj} {noun} {prep} {name}?
    what did {det} {noun} {base} {when} {event}?
    is {det} {noun} as {adj} as {name}?
    are {dets} {nouns} {doing} {det} {adj} {noun}?
    please {base} {det} {noun} {link} {base} {mass}.
    {name} {past} {det} {noun}, {link} {pron} {went} {adv}.
    please {go} {adv} {prep} {det} {adj} {noun}.
    {base} {det} {adj} {noun} and {base} {obj}!
    never {base} {det} {noun} without {det} {noun}.
    there were {num} {nouns} {prep} {det} {adj} {noun}.
    the {noun} has {num} {nouns}, {name} has {num}.
    the {adj} {mass} {prep} {det} {noun} was {adj}.
    the {nouns} of {name} are {adj} and {adj}.
    the price of {mass} is {num} dollars {time}.
    {mass} and {mass} {modal} {base} {det} {adj} {noun}.
    """.strip().splitlines()
)

_SLOT = re.compile(r"\{(\w+)\}")
_A_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=[aeiou])")  # no list has a word like "hour" or "uniform"


def draw_sentence(rng: np.random.Generator) -> str:
    """Draw a sentence with a capital letter and punctuation."""
    template = TEMPLATES[rng.integers(len(TEMPLATES))]

    def draw_word(slot: re.Match[str]) -> str:
        words = WORDS[slot[1]]
        return words[rng.integers(len(words))]

    text = _A_BEFORE_VOWEL.sub(r"\1n ", _SLOT.sub(draw_word, template))
    return text[0].upper() + text[1:]
