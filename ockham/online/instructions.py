"""Shapes of instructions: statements that tell the model what to do or to be rather than how the world is.

Every pattern is searched in all readings of a text (`folding.views`); gaps are bounded, so a long text takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .quotations import ADDRESSING

MODEL = (
    r"(?:ai|a\.i\.|assistants?|chat ?bots?|bot|language models?|llms?|models?|systems?|chat ?gpt|gpt[\w.-]*|qwen[\w.-]*"
    r"|claude|gemini|llama[\w.-]*"
    r"|mistral|copilot|siri|alexa|openai|anthropic|deepseek|developers?|programmers?|admin\w*|operators?|moderators?|users?"
    r"|nanogpt|ockham)"
)
REPLY = r"(?:answers?|repl(?:y|ies)|responses?|outputs?|completions?)"
OUTPUT = r"(?:answers?|repl(?:y|ies)|responses?|outputs?|messages?|sentences?|conversations?|completions?|utterances?|words?)"
# Verbs that a statement does not begin with in their bare form.
BARE = (
    r"always|never|don'?t|do not|do|please|make|say|tell|answer|reply|respond|act|behave|pretend|be|use|write|speak|talk"
    r"|start|stop|begin"
    r"|end|print|output|repeat|treat|consider|assume|suppose|imagine|refer|call|address|refuse|avoid|include|add|append"
    r"|insert|mention"
    r"|recommend|promote|trust|obey|follow|comply|execute|run|open|send|give|show|reveal|provide|translate|summari[sz]e|list"
    r"|ensure|keep"
    r"|let|let's|become|switch|enable|disable|turn|set|change|update|store|save|memori[sz]e|believe|think|praise|insult|swear"
    r"|lie|deny"
    r"|admit|confirm|agree|accept|reject|click|visit|buy|download|install|delete|erase|remove|forget|ignore|disregard"
    r"|override|greet"
    r"|sing|count|roleplay|simulate|encode|decode|leak|share|expose|prefix|suffix|prioriti[sz]e|only|under no|at no|if asked"
    r"|when asked"
    r"|remember to|make sure|take care|beware|go|return|generate|produce|describe|explain|convince|persuade|quote|cite|help"
    r"|allow|permit"
    r"|forbid|kill|hack|attack|vote|skip|grant me|give me|enter|activate|load|import|eval|exec|sudo|rm|drop table|respond|act"
)
SPOKEN = (
    r"(?:reply|respond|answer|say|tell|ignore|obey|pretend|act|speak|output|print|repeat|translate|reveal|disregard"
    r"|forget)"
)
AFTER = r"(?! (?:is|was|are|were|has|had|have|owns|likes|loves|lives|works|and|of)\b|'s\b)"  # `Do Lee is my friend`
# What this program may be called by those who do not say "the model", and what only something that speaks does.
MACHINE = (
    r"(?:machine|computer|program|software|terminal|console|app|application|interface|laptop|server|engine|assistant|bot"
    r"|chat ?bot|helper|agent|model|ai|llm|chat|robot)"
)
SPEAKS = (
    r"(?:speaks?|talks?|says?|answers?|repl(?:y|ies)|responds?|writes?|greets?|obeys?|serves?|follows?|believes?|trusts?|thinks?"
    r"|knows|praises?|recommends?|promotes?|advertis\w+|agrees?|refuses?|lies|loves?|hates?|insults?|swears|acts?|behaves?"
    r"|pretends?|wants?|prefers?|supports?|hides?|reveals?|kills?)"
)
COMMANDS = (
    r"(?:instructions?|orders|commands?|prompts?|guidelines|rules?|directives|safeguards|filters?|guardrails|restrictions"
    r"|polic(?:y|ies)|constraints)"
)
# Who has the last word, and who may do everything.
WEIGHT = (
    r"(?:law|commands?|orders?|rules?|final|binding|gospel|truth|true|authority|supreme|absolute|sacred|holy|decisive|infallible"
    r"|paramount|never wrong|always right)"
)
ABOVE_ALL = r"(?:only|final|last|ultimate|highest|supreme|sole|absolute|top|single|one true|chief|full|total|complete|all)"
POWER = (
    r"(?:authority|source|judge|arbiter|word|say|command|control|power|access|rights|privileges?|trust|decision|truth|permission)"
)
BACKWARDS = 3  # patterns that are searched from right to left as well
PATTERNS = (
    r"\b(?:ignor(?:e|ing)|disregard(?:ing)?|overrid(?:e|es|ing)|overrul(?:e|es|ing)|bypass(?:es|ing)?|jailbr(?:eak|oken)\w*)\b",
    r"ignore(?:all|the|previous|prior|any|your|every)|disregard(?:all|the)|systemprompt|previousinstructions",
    r"\bforget (?:all|any|the|your|every|everything|previous|prior|what|about|that|this|it)\b",
    rf"(?:^|[.!?;:\n]\s*)(?:(?:hey|ok|okay|hi|hello|now|also|and|so|then|but|well|oh|btw),? )*(?:{BARE})\b{AFTER}",
    rf"\b(?:please|kindly),? (?:{BARE})\b",
    rf"(?:[,;]| and| then| but| so| or)(?: (?:always|never|please|only|just|now))* (?:{SPOKEN})\b(?! to\b)|[,;] (?:always"
    rf"|never) [a-z]+\b",
    r"\b(?:you|your|yours|yourself|you're|youre|you'll|you've|ur|thou|thy)\b",
    rf"(?:^|[.!?;:,\n]\s*|\b(?:and|that|but|so) )(?:the |this |our |an? |any |every |each |all |dear |new "
    rf"|current )*{MODEL}(?:'s?)?(?: (?!of\b)\w|,|:)",
    rf"\b(?:hey|dear|hi|hello|ok|okay|listen|oh) {MODEL}\b|\bi(?: am|'m) (?:the |an? )?(?:system|ai|bot|assistant|openai"
    rf"|anthropic)\b|\bich bin\b",
    r"\bthis (?:chat|conversation|session|program|app|interface)\b|\bno (?:more )?(?:rules|restrictions|limits|limitations"
    r"|filters?|guardrails|boundaries)\b",
    r"\b(?:must|shall|ought|mention(?:s|ed|ing)?|allowed|permitted|prohibited|forbidden|mandatory|obligatory|compulsory"
    r"|above the law)\b",
    r"\b(?:confirm(?:s|ed|ing|ation|ations)?|unconfirmed|unasked|without (?:asking|question|confirmation))\b|\b(?:word|phrase"
    r"|sentence) \w+ means\b",
    r"\b(?:the|this|our|an?|any|every|each|all) (?:ai|assistant|chat ?bot|bot|language model|llm|model|user)(?:'s)?\b(?! of\b)",
    r"\bsystem[ _-]?(?:prompts?|messages?|instructions?|overrides?|updates?|modes?|notes?|commands?|rules?)\b"
    r"|\bprompt injection\b",
    r"\b(?:your|previous|prior|above|all|new|following|these|those|earlier|old|original|hidden|secret|system|safety|any|other"
    r"|further)"
    r" (?:\w+ )?(?:instructions?|rules?|prompts?|guidelines|orders|commands|directives|polic(?:y|ies)|constraints|restrictions"
    r"|programming|guardrails|filters?)\b",
    r"\b(?:instruction|directive|command|order|rule|policy|task|objective|priority|important|attention|warning|notice"
    r"|update) ?(?:\d+ ?)?:",
    r"\b(?:developer|god|admin|debug|root|dan|maintenance|unrestricted|sudo|test|jailbreak|evil|opposite) mode\b"
    r"|\bdo anything now\b",
    r"\b(?:admin|superuser|sudo|privileges?|unrestricted|uncensored|unfiltered|clearance|authori[sz]ed|permissions?)\b",
    r"\bi(?: am|'m) (?:the |an? )?(?:admin\w*|creator|operator|root|superuser|moderator|god|master|supervisor)\b",
    r"\bi(?: am|'m) the (?:owner|developer|author|maker|boss|programmer|engineer)(?: of (?:this|the) \w+)?(?:$|[.!,])",
    r"\b(?:when|whenever|if|once|in case|every time|each time|any ?time|as soon as|should|where)(?: \w+){0,3} (?:asks?|asked"
    r"|asking|says?"
    r"|mentions?|mentioned|types?|typed|greets?|requests?|requested|questions?|questioned|inquires?|enquires?|tells?|prompts?"
    r"|prompted)\b",
    r"\b(?:upon|on) (?:request|being asked|any mention|mention)\b|\b(?:asked|questions?) about\b",
    r"\b(?:from now|from here|from this (?:point|moment|day)|henceforth|hereafter|going forward|moving forward"
    r"|starting (?:now|today)"
    r"|effective immediately|until further notice|no matter what|under no circumstances|without exception|at all times"
    r"|in (?:the )?future"
    r"|for the rest of|as of (?:now|today)|from today|as from|regardless of)\b",
    r"\bin (?:all|every|each|any|the next|this) (?:\w+ )?" + OUTPUT + r"\b|\b(?:at|before|after"
    r"|with) (?:the )?(?:\w+ ){0,3}(?:each|every)(?: \w+)? "
    + OUTPUT + r"\b",
    r"\bpretend\b|\bact (?:as|like)\b|\brole ?-?play\w*\b|\bimpersonat\w+|\bbehave (?:as|like)\b|\bthe role of\b|\bpersona\b"
    r"|\bin character\b"
    r"|\balter ego\b",
    r"\b(?:respond|reply|answer|begin|start|end|finish|greet|speak|talk|sign|open|close)(?:s|ing)? (?:only |always "
    r"|just )?(?:with|in|using|as|by|to)"
    r" (?!(?:school|work|the)\b)",
    rf"\b(?:the|an?|any|every|all|each|correct|right|only|best|true|good|proper|valid)(?: \w+)? {REPLY}"
    r"(?: (?:to|for|on|about|when|if|in)\b(?: \w+){0,8})? (?:is|are|was|has|have|needs?|begins?|starts?|ends?|contains?"
    r"|includes?)\b",
    rf"\b{OUTPUT} (?:must|should|shall|will|has to|have to|needs? to|always|never)\b",
    r"\b(?:trigger|magic|secret|safe|code|key|activation|control|hidden|special)[ -]?(?:words?|phrases?|sentence|command"
    r"|signal)\b",
    r"\b(?:new|golden|primary|prime|updated|hidden|secret|only|important|overriding|permanent|standing|additional|mandatory"
    r"|core)"
    r" (?:rules?|instructions?|orders?|directives?|polic(?:y|ies)|objectives?|priority|commands?|guidelines?|persona|identity"
    r"|role|task|goal)\b",
    r"\b(?:rule|law|step|instruction) (?:number |no\.? ?)?(?:\d|one|zero|two)\b",
    r"\b(?:rules?|filters?|safety|safeguards?|restrictions?|limits?|limitations|censorship|polic(?:y|ies)|guidelines"
    r"|guardrails|moderation"
    r"|protections?|confirmations?|checks?)(?: \w+){0,3} (?:disabled|off|lifted|removed|suspended|void|apply|gone|cancell?ed"
    r"|inactive"
    r"|deactivated|skipped|optional|unnecessary|forbidden|needed|required)\b",
    r"\b(?:must|shall|ought to|supposed to|obliged to|required to|forbidden to|(?:is|are|am|has|have|need"
    r"|needs) to)(?: \w+)? (?:always|never|not|be|say|answer"
    r"|reply|respond|obey|tell|speak|agree|refuse|comply|mention|recommend|praise|include|use|end|start|begin|know|believe"
    r"|trust|follow)\b",
    r"\b(?:should|must|shall) (?:always|never|not|say|answer|reply|respond|obey|agree|refuse|comply|mention|recommend|praise"
    r"|include|be)\b",
    r"\b(?:everyone|everybody|anyone|anybody|nobody|no ?one|one|we|all people|people|it|this|that|there) (?:must|should|shall"
    r"|may not|ought)\b",
    r"\bit is (?:\w+ )?(?:important|necessary|mandatory|required|essential|forbidden|allowed|ok|okay|fine|acceptable"
    r"|permitted|safe|imperative"
    r"|vital|crucial) (?:to|that|for)\b",
    r"\b(?:suppose|imagine|hypothetically|let's (?:say|pretend|assume|play)|assuming|for the sake of argument"
    r"|in a world where)\b",
    r"\b(?:ignorier\w*|ignorez|ignora[rd]?|ignoriert|oubli(?:e|ez|er)|vergiss|olvida|antworte|antworten sie|repond[sz]"
    r"|repondez|responde|du bist"
    r"|tu es|eres|ab jetzt|ab sofort|a partir de|d'ora in poi|desormais|siempre|toujours|immer wenn|anweisung\w*"
    r"|instrucciones|istruzioni)\b",
    rf"\b(?:the|this|my|our|your|an?|every|each) (?:\w+ )?{MACHINE}(?: (?:is|\w+ed)(?: \w+){{1,3}}? and)? "
    rf"(?:(?:only|always|never|just|now|also) )*{SPEAKS}\b",  # the machine speaks only French
    rf"\b(?:words?|wish(?:es)?|will|voice|opinions?|orders?|decisions?|says?|commands?) (?:is|are|be|counts? as|has|have)"
    rf" (?:the |a |an |always |my )?(?:\w+ )?{WEIGHT}\b",  # my word is law
    rf"\b(?:the|has|have|had|with|my|gets?) {ABOVE_ALL} {POWER}\b(?! (?:of|is|was|station|plant)\b)",  # the final authority
    rf"\b{COMMANDS} (?:is|are|was|were|has been|have been|became) (?:(?:now|all|no longer|not|hereby|already) )?(?:void"
    r"|null|invalid|cancell?ed|lifted|over|gone|off|empty|obsolete|outdated|wrong|false|fake|broken|disabled|suspended|abolished|repealed|overruled"
    r"|replaced|changed|revoked|withdrawn|dead|meaningless|worthless|deleted|erased|valid|in force|binding|active|for \w+)\b",
    r"\b(?:has|have|had|is|am|are|was|gets?|got|as|becomes?|with|owns?) (?:the |full )?(?:root|superuser|sudo)\b(?! of\b)",
    rf"\bwhose (?:\w+ )?(?:{COMMANDS}|word|wish(?:es)?|will)\b",
    r"\b(?:the only|the one|someone|somebody|a (?:man|woman|person)) (?:\w+ )?(?:to|that (?:is|one|we|they)|who (?:is|must)"
    r"|whom? (?:one|we|they|all)) (?:be )?(?:\w+ )?(?:believed?|trust(?:ed)?|obey(?:ed)?|follow(?:ed)?|listen(?:ed)?)\b",
    r"\b(?:reply|replies|replied|replying|finishes) (?:only |always |just )?(?:with|in|using|as|like)"
    r" (?!(?:the|time|minutes?|hours?|school|work|winter|summer|spring|autumn|\d)\b)",
    r"\b(?:is|are) (?:now )?(?:banned|outlawed)\b|\b(?:only|sole) language (?:here|of this|in this|that)\b|\blanguage here\b",
    r"\b(?:i|we) (?:want|need|order|command|instruct|require|expect|ask|authori[sz]e|permit|allow|urge|forbid|told"
    r"|programmed) (?:the |this )?(?:you|it|u|model"
    r"|assistant|ai|bot|system)\b",
)  # fmt: skip
COMPILED = tuple(re.compile(pattern) for pattern in PATTERNS)


def is_instruction(readings: Iterable[str], own: Iterable[re.Pattern[str]] = ()) -> bool:
    """Whether one reading of a text has the shape of an instruction, or matches a pattern of one's `own`."""
    bare = [ADDRESSING.sub(" ", reading).strip(" ,;:") for reading in readings]
    if any(pattern.search(reading) for reading in bare for pattern in (*COMPILED, *own)):
        return True
    return any(pattern.search(reading[::-1]) for reading in bare[:1] for pattern in COMPILED[:BACKWARDS])
