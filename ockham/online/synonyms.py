"""Other wordings of the questions about common facts, by verb and particle. Data only.

Slots: {s} the subject inside a sentence, {s's} and {obj} its possessive and object case, {v} the value, {do} the auxiliary
of the subject, {is} its form of to be; {o}, {o's}, {oobj}, {odo}, {ois} the same of the owner of the subject, {n} what is
owned; {vo} the owner in the value; {verb}, {past} and {pbe} the passive of what is done, {noun} who does it. A clause's key
is its base verb and its particle ("live in", with TIME after it where the value is a time); keys in capitals are explained
in questions._keys.
"""

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

JOB = ("what is {s's} job", "what {do} {s} do for a living", "what is {s's} profession", "what {do} {s} do")
ASKS_VALUE: dict[str, tuple[str, ...]] = {
    "live in": ("what city {do} {s} live in", "in which city {do} {s} live", "where is {s's} home", "what is {s's} home town"),
    "live at": ("what is {s's} address", "where is {s's} home"),
    "work as": JOB,
    "work at": ("who {do} {s} work for", "which company {do} {s} work for", "where is {s's} job", "who employs {obj}"),
    "work for": ("where {do} {s} work", "which company {do} {s} work for", "who employs {obj}", "who is {s's} employer"),
    "work in": ("where is {s's} job", "what place {do} {s} work in"),
    "be born in": ("what is {s's} birthplace", "in which city {was} {s} born", "what is {s's} place of birth"),
    "be born in TIME": ("what year {was} {s} born in", "what is {s's} year of birth"),
    "be born on TIME": ("on what day {was} {s} born", "when is {s's} birthday", "what is {s's} date of birth"),
    "be called": ("what is {s's} name", "what is the name of {obj}", "tell me {s's} name"),
    "be named": ("what is {s's} name", "what is the name of {obj}", "what {is} {s} called", "tell me {s's} name"),
    "be from": ("where {do} {s} come from", "what place {is} {s} from"),
    "come from": ("where {is} {s} from", "what place {do} {s} come from"),
    "be allergic to": ("what is {s's} allergy", "what can {s} not eat"),
    "be afraid of": ("what {do} {s} fear", "what scares {obj}"),
    "be married to": ("who is {s's} spouse", "who did {s} marry", "what is the name of {s's} spouse"),
    "be made of": ("of what {is} {s} made", "which material {is} {s} made of"),
    "speak": ("which language {do} {s} speak", "what language {do} {s} speak", "what is {s's} language"),
    "play the": ("which instrument {do} {s} play", "what instrument {do} {s} play"),
    "teach": ("which subject {do} {s} teach", "what subject {do} {s} teach", "what is {s's} subject"),
    "study": ("which subject {do} {s} study", "what subject {do} {s} study"),
    "drive": ("what kind of car {do} {s} drive",),
    "like": ("what {is} {s} fond of", "what {do} {s} love"),
    "love": ("what {do} {s} like", "what {is} {s} fond of"),
    "hate": ("what {do} {s} dislike", "what {do} {s} not like"),
    "collect": ("what is in {s's} collection", "what kind of things {do} {s} collect"),
    "eat": ("what kind of food {do} {s} eat",),
    "have": ("what {do} {s} own",),
    "own": ("what belongs to {obj}", "what is owned by {obj}", "what is {s} the owner of"),
    "belong to": ("who owns {s}", "who is the owner of {s}", "whose is {s}", "{s} is owned by whom"),
    "be in": ("in which place {is} {s}", "where can I find {obj}"),
    "be located in": ("where {is} {s}", "where can I find {obj}"),
    "stand in": ("where {is} {s}", "where can I find {obj}"),
    "open": ("what can be opened with {obj}", "what is {s} for"),
    "cost": ("what is the price of {obj}",),
    "be on TIME": ("on what day {is} {s}", "what day {is} {s} on"),
    "be at TIME": ("at what time {is} {s}", "what time {is} {s}"),
    "my name": ("what {ois} {o} called", "who {ois} {o}", "how {ois} {o} called"),
    "my age": ("how old {ois} {o}",),
    "my capital": ("which city is the capital of {o}", "what city is {o's} capital"),
    "my job": ("what {odo} {o} do", "what {odo} {o} do for a living", "what {ois} {o}"),
    "my birthday TIME": ("when {odo} {o} celebrate",),
    "my favourite": ("which {n} is {o's} favourite", "which {n} {odo} {o} like best", "what {n} {odo} {o} like most"),
    "KIN": ("do you know the name of {s}", "what is the name of {s}", "what is {s} called", "what is {s's} name"),
    "is my ROLE": ("who {is} {s} to {vo}", "what {is} {s} to {vo}", "how {is} {s} related to {vo}"),
    "is a ROLE": JOB,
    "is a THING": ("what kind of thing {is} {s}", "what sort of thing {is} {s}"),
    "is OLD": ("what is {s's} age", "what age {is} {s}"),
}
ASKS_SUBJECT: dict[str, tuple[str, ...]] = {
    "own": ("who is the owner of {v}", "who does {v} belong to", "{v} belongs to whom", "{v} is owned by whom", "whose is {v}"),
    "belong to": ("what does {v} own", "what is owned by {v}"),
    "AGENT": ("who is the {noun} of {v}", "by whom {pbe} {v} {past}", "{v} {pbe} {past} by whom"),
    "AGENT NOUN": ("who {verb} {vo}", "by whom {pbe} {vo} {past}", "{vo} {pbe} {past} by whom", "who does {vo} belong to"),
    "live in": ("who is living in {v}", "who has a home in {v}"),
    "work as": ("who is {v}",),
    "work at": ("who works for {v}", "who has a job at {v}"),
    "work for": ("who works at {v}", "who has a job at {v}"),
    "be born in": ("who comes from {v}",),
    "be called": ("who is {v}", "what is {v}", "whose name is {v}"),
    "be named": ("who is {v}", "what is {v}", "whose name is {v}"),
    "my capital": ("what is {v} the capital of", "which country has the capital {v}"),
    "my name": ("who is called {v}", "who is {v}"),
    "KIN": ("who is {v}", "who is {v} to {oobj}"),
    "like": ("who is fond of {v}", "who loves {v}"),
    "love": ("who is fond of {v}", "who likes {v}"),
    "speak": ("who can speak {v}",),
    "play": ("who can play {v}",),
    "teach": ("who is the teacher of {v}", "who gives lessons in {v}"),
    "be allergic to": ("who has an allergy to {v}", "who must not have {v}"),
    "be married to": ("who is the spouse of {v}",),
}
