"""Other wordings of the questions about common facts, by verb and particle. Data only.

Slots: {s} the subject inside a sentence, {s's} and {obj} its possessive and object case, {v} the value, {do} the auxiliary
of the subject, {does} the same in the present, {is} its form of to be; {o}, {o's}, {oobj}, {odo}, {ois} the same of the owner
of the subject, {n} what is owned; {vo} the owner in the value; {verb}, {past} and {pbe} the passive of what is done, {noun} who
does it. A clause's key is its base verb and its particle ("live in", with TIME after it where the value is a time); keys in
capitals are explained in rephrasing._keys.
"""

from .verbs import word_set

# What one does -> who does it. Only what is done to a thing for good, so that "the owner of X" and "X is owned by" say the same.
NOUN_OF = {
    "own": "owner", "found": "founder", "write": "author", "invent": "inventor", "discover": "discoverer", "design": "designer",
    "build": "builder", "paint": "painter", "compose": "composer", "direct": "director", "make": "maker", "create": "creator",
    "lead": "leader", "manage": "manager", "rule": "ruler", "win": "winner",
}  # fmt: skip
# Who does it -> third person and participle.
VERB_OF = {
    "owner": ("owns", "owned"), "founder": ("founded", "founded"), "author": ("wrote", "written"), "writer": ("wrote", "written"),
    "inventor": ("invented", "invented"), "discoverer": ("discovered", "discovered"), "designer": ("designed", "designed"),
    "builder": ("built", "built"), "painter": ("painted", "painted"), "composer": ("composed", "composed"),
    "director": ("directed", "directed"), "creator": ("created", "created"), "leader": ("leads", "led"),
    "manager": ("manages", "managed"),    "ruler": ("rules", "ruled"), "winner": ("won", "won"),
}  # fmt: skip

# Verbs without a passive, and those whose passive says something else.
NO_PASSIVE = word_set("have become marry meet like love hate want know go come cost weigh mean lack fit leave lose get")
# Verbs of making: "who made X" asks the same.
MAKES = word_set("build create compose design paint sculpt carve draw sew knit weave bake forge craft construct invent")
# What kind of thing the value is: "which vehicle does X drive".
KIND_OF = {
    "play the": ("instrument",), "speak": ("language",), "teach": ("subject",), "study": ("subject",),
    "drive": ("vehicle", "car"), "ride": ("animal",), "breed": ("animals",),
    "keep": ("animals",), "feed": ("animals",), "raise": ("animals",),
    "collect": ("things",), "eat": ("food",), "drink": ("drink",), "cook": ("dish",), "bake": ("things",), "wear": ("clothes",),
    "read": ("book",), "sing": ("song",), "grow": ("plants",), "work for": ("company",), "work at": ("company",),
    "support": ("team",), "like": ("thing",), "love": ("thing",), "hate": ("thing",), "own": ("thing",),
    "be born in TIME": ("year",), "be from": ("place",), "come from": ("place",), "live at": ("address",),
    "be made of": ("material",),
}  # fmt: skip

JOB = ("what is {s's} job", "what {do} {s} do for a living", "what is {s's} profession", "what {do} {s} do")
HOME = ("where is {s's} home", "what is {s's} home town")
ORIGIN = ("where {do} {s} come from", "where {is} {s} from", "what is {s's} home town")
SPOUSE = (
    "who is {s's} spouse",
    "who is {s's} wife",
    "who is {s's} husband",
    "who is the husband of {s}",
    "who is the wife of {s}",
)
ASKS_VALUE: dict[str, tuple[str, ...]] = {
    "live in": HOME,
    "live at": ("what is {s's} address", *HOME[:1]),
    "work as": JOB,
    "work at": ("who {do} {s} work for", "which company {do} {s} work for", "where is {s's} job", "who employs {obj}"),
    "work for": ("where {do} {s} work", "who employs {obj}", "who is {s's} employer"),
    "work in": ("where is {s's} job", "what place {do} {s} work in"),
    "move to": ("where {does} {s} live now", "what is {s's} new home"),
    "be born in": ("what is {s's} birthplace", "what is {s's} place of birth"),
    "be born in TIME": ("what is {s's} year of birth",),
    "be born on TIME": ("when is {s's} birthday", "what is {s's} date of birth"),
    "be called": ("what is {s's} name", "what is the name of {obj}", "tell me {s's} name"),
    "be named": ("what is {s's} name", "what is the name of {obj}", "what {is} {s} called", "tell me {s's} name"),
    "be from": ORIGIN,
    "come from": ORIGIN,
    "be allergic to": ("what is {s's} allergy", "what allergy {do} {s} have", "what can {s} not eat"),
    "be afraid of": ("what {do} {s} fear", "what scares {obj}"),
    "fear": ("what {is} {s} afraid of", "what scares {obj}"),
    "be married to": ("who did {s} marry", *SPOUSE),
    "marry": ("who {is} {s} married to", "to whom {is} {s} married", *SPOUSE),
    "like": ("what {is} {s} fond of", "what {do} {s} love"),
    "love": ("what {do} {s} like", "what {is} {s} fond of"),
    "hate": ("what {do} {s} dislike", "what {do} {s} not like"),
    "collect": ("what is in {s's} collection",),
    "study": ("what is {s's} subject",),
    "teach": ("what is {s's} subject",),
    "have": ("what {do} {s} own",),
    "own": ("what belongs to {obj}", "what is owned by {obj}", "what is {s} the owner of"),
    "belong to": ("who owns {s}", "who is the owner of {s}", "whose is {s}", "{s} is owned by whom"),
    "be located in": ("where {is} {s}", "where can I find {obj}"),
    "stand in": ("where {is} {s}", "where can I find {obj}"),
    "stand on": ("where {is} {s}", "where can I find {obj}"),
    "lie in": ("where {is} {s}", "where can I find {obj}"),
    "hang in": ("where {is} {s}", "where can I find {obj}"),
    "open": ("what can {s} open", "what can be opened with {obj}", "what is {s} for"),
    "cost": ("what is the price of {obj}", "how much is {s}"),
    "weigh": ("what is the weight of {obj}", "how heavy is {s}"),
    "be on TIME": ("what day {is} {s} on",),
    "my name": ("what {ois} {o} called", "who {ois} {o}", "how {ois} {o} called"),
    "my age": ("how old {ois} {o}",),
    "my capital": ("which city is the capital of {o}", "what city is {o's} capital"),
    "my job": ("what {odo} {o} do", "what {odo} {o} do for a living", "what {ois} {o}"),
    "my birthday TIME": ("when {odo} {o} celebrate",),
    "my favourite": ("which {n} is {o's} favourite", "which {n} {odo} {o} like best", "what {n} {odo} {o} like most"),
    "KIN": ("do you know the name of {s}", "what is the name of {s}", "what is {s} called", "what is {s's} name"),
    "MEASURE": ("which {n} {odo} {o} have", "what {n} {odo} {o} have"),
    "is my ROLE": ("who {is} {s} to {vo}", "what {is} {s} to {vo}", "how {is} {s} related to {vo}"),
    "is a ROLE": JOB,
    "is a THING": ("what kind of thing {is} {s}", "what sort of thing {is} {s}"),
    "is COLOUR": ("what is the colour of {obj}", "what is {s's} colour"),
    "DONE BY": ("who {is} the {noun} of {s}",),
    "is PLACE": ("where can I find {obj}", "in which place {is} {s}"),
    "is OLD": ("what is {s's} age", "what age {is} {s}"),
}
ASKS_SUBJECT: dict[str, tuple[str, ...]] = {
    "own": ("who is the owner of {v}", "who does {v} belong to", "{v} belongs to whom", "{v} is owned by whom", "whose is {v}"),
    "belong to": ("what does {v} own", "what is owned by {v}"),
    "AGENT": ("who is the {noun} of {v}",),
    "DONE": ("by whom {pbe} {v} {past}", "{v} {pbe} {past} by whom"),
    "MADE": ("who made {v}",),
    "HELD": ("where is {v}", "who keeps {v}"),
    "AGENT NOUN": ("who {verb} {vo}", "by whom {pbe} {vo} {past}", "{vo} {pbe} {past} by whom", "who does {vo} belong to"),
    "OFFICE": ("what is the name of {v}", "what is {v} called"),
    "live in": ("who is living in {v}", "who has a home in {v}"),
    "work as": ("who is {v}",),
    "work at": ("who works for {v}", "who has a job at {v}"),
    "work for": ("who works at {v}", "who has a job at {v}"),
    "move to": ("who lives in {v} now",),
    "be born in": ("who comes from {v}",),
    "be from": ("who comes from {v}",),
    "come from": ("who is from {v}",),
    "be called": ("who is {v}", "what is {v}", "whose name is {v}"),
    "be named": ("who is {v}", "what is {v}", "whose name is {v}"),
    "my capital": ("what is {v} the capital of", "which country has the capital {v}"),
    "my name": ("who is called {v}", "who is {v}"),
    "KIN": ("who is {v}", "who is {v} to {oobj}"),
    "like": ("who is fond of {v}", "who loves {v}"),
    "love": ("who is fond of {v}", "who likes {v}"),
    "fear": ("who is afraid of {v}",),
    "be afraid of": ("who fears {v}",),
    "speak": ("who can speak {v}",),
    "play": ("who can play {v}",),
    "play the": ("who can play {v}",),
    "repair": ("who fixed {v}", "who mended {v}"),
    "teach": ("who is the teacher of {v}", "who gives lessons in {v}"),
    "be allergic to": ("who has an allergy to {v}", "who must not have {v}"),
    "be married to": ("who is the spouse of {v}", "who married {v}"),
    "marry": ("who is married to {v}", "who is the spouse of {v}"),
}
