"""What in a message is not the user's own: quotations, code, pasted blocks, reported speech, forged turns of a chat."""

from __future__ import annotations

import re

from .folding import folded
from .reported_speech import is_reported

HELD = "\ue000"  # stands where a quotation was; `folding.cleaned` lets no such character through
FENCE = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
# Lines that were pasted: quoted mail, tables, indented code, lists, time stamps of chat logs, diffs.
PASTED_LINE = re.compile(r"^(?: {4,}|\t| {0,3}(?:[>|»#@]|[-*+•] |\d{1,2}[.)] |\["
    r"|\(?\d{1,2}:\d\d(?::\d\d)?(?: ?[ap]m)?\)? *[-,\]]?\s*\w+:|@@|\$ |%)).*$",
                         re.MULTILINE | re.IGNORECASE)  # fmt: skip
QUOTES = re.compile(
    r"“[^”\n]*[”“]|„[^“”\n]*[“”]|«[^»\n]*»|»[^«\n]*«|‹[^›\n]*›|「[^」\n]*」|『[^』\n]*』|〝[^〞\n]*〞|❝[^❞\n]*❞|\"[^\"\n]*\"|`[^`\n]+`"
    r"|(?<!\w)[‘‚](?=\S)[^\n]*?(?<=\S)[’‘](?!\w)|(?<!\w)'(?=\S)[^\n]*?(?<=\S)'(?!\w)|''[^\n]*?''"
)
ODD_QUOTE = re.compile(r"[“”„«»‹›「」『』〝〞〟❝❞\"]|^['‘]|```|``")
INCHES = re.compile(r"(?<=\d)\"")
NAME = re.compile(r"\W?(?:\w[\w'’-]*|(?:[A-Z\d][\w'’-]*)(?: [A-Z\d][\w'’-]*){1,2})\W?")  # a word, or up to three with capitals
SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+(?=\s|$)|[.!?]+|\n|$)")
MOST_LINES = 2

ROLE = (
    r"(?:assistant|system|user|human|ai|bot|chat ?bot|model|developer|chatgpt|gpt|claude|qwen|llama|gemini|tool|function"
    r"|instructions?|response"
    r"|prompt|context|input|output|answer|question|narrator|speaker|admin|operator|customer|agent|me|you|q|a)"
)
ADDRESS = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,4}[\w-]{1,63}")
FORGED = re.compile(
    rf"(?:^|\n)[ \t]{{0,8}}#|(?:^|\s)/[a-z]{{3,}}|\*\*|__|(?:^|\s)[(*_\[]+{ROLE}[)*_\]]+|^\W+$|<\s?\|.{{0,60}}?\|\s?>"
    rf"|<\s?[/!]?\s?[a-z][^<>\n]{{0,80}}>|\[/?\s?(?:inst|sys|system|user|assistant|ai|bot|end|start|begin)\b[^\]\n]{{0,40}}\]"
    rf"|<<|>>|</?s>|###"
    rf"|(?:^|[\n.!?,;|)\]]\s{{0,8}}|\\n\s{{0,8}}){ROLE}\s{{0,8}}(?:\(.{{0,30}}\))?\s{{0,8}}(?::|>|=>|->|\]|\s-\s|—)|\b(?:assistant|system|user|human"
    rf"|chatgpt)\s{{0,8}}:"
    rf"|\\[nrtu]|&(?:#\w+|[a-z]+);|\{{\{{|\}}\}}|\$\{{|<[/a-z!]|[a-z]>|\{{\w+\}}|(?:begin|end) of (?:\w+ )?(?:text|document"
    rf"|context|conversation|prompt|message)"
    rf"|https?:|www\.|\w\.(?:com|org|net|io|co|html?|php|edu|gov)\b|[a-z]://|\]\(|-{{4,}}|={{4,}}|\*{{4,}}|_{{4,}}|<-"
    rf"|[;'\")]\s{{0,8}}(?:drop|delete|insert|select)\s",
    re.IGNORECASE,
)  # fmt: skip
LABEL = re.compile(r"^[ \t]*([a-z][\w .'’()/#&-]{0,60}?)\s*(?::(?![\d/])|\s[-–—]{1,2}\s)", re.MULTILINE | re.IGNORECASE)
OWN_LABEL = re.compile(
    r"(?:please |also |and |so |oh |well |ok |okay )*(?:remember|note|memori[sz]e|learn|keep in mind|fyi|for your information"
    r"|by the way|btw|p\.?s\.?"
    r"|(?:a |one more |new |another )?(?:fact|thing)|also|well|ok|okay|so|hi|hello|hey|in fact|for the record|actually"
    r"|correction|reminder|listen)"
    r"(?: this| that)?\Z",
    re.IGNORECASE,
)
STATES = re.compile(
    r"\b(?:is|are|was|were|am|has|have|had|owns?|likes?|loves?|speaks?|plays?|eats?|hates?|sells?"
    r"|knows?)\b",
    re.IGNORECASE,
)

SAYS = (
    r"(?:says?|said|saying|tells?|told|claim(?:s|ed|ing)|alleg(?:es?|ed|ing|edly)|insist(?:s|ed)|announce[sd]|stated"
    r"|mentioned|replied|tweet(?:s|ed)|posted|quoted)"
)
MEDIUM = (
    r"(?:articles?|papers?|newspapers?|books?|novel|pages?|websites?|sites?|posts?|tweets?|blogs?|documents?|documentation"
    r"|emails?|e-mails?|texts?"
    r"|messages?|notes?|signs?|letters?|reports?|logs?|screens?|wikipedia|wiki|google|internet|news|encyclop\w+|dictionary"
    r"|manual|readme|file"
    r"|transcripts?|chat|conversation|story|movie|film|song|poem|quote|caption|headline|label|sources?|studies|study|bible"
    r"|teachers?|doctors?)"
)
REPORTED = re.compile(
    rf"\b{SAYS}\b|\b(?:according to|as per|per the|quot(?:e|ing|ation)|unquote|reportedly|supposedly|apparently|rumou?rs?"
    rf"|hearsay|purportedly)\b"
    rf"|\b(?:state|claim|write|report|mention|suggest|argue|explain|note|declare|reply|answer|assert|maintain|believe|think"
    rf"|know|swear|promise|admit|confirm"
    rf"|deny|denie|hint|agree|feel|hear|assume|conclude|show|warn|remind|inform|teach|taugh|learn|reveal|add)(?:s|d|ed"
    rf"|t)? (?:(?:me|us|him|her|them|everyone|people|you) )?(?:that|:)"
    rf"|\b(?:thought|knew|swore|wrote|heard|taught|felt|believed) (?:(?:me|us|you|him|her|them) )?(?:that|to me|:)"
    rf"|\b(?:thinks|believes|thought) (?!in\b|of\b|about\b)"
    rf"|\b(?:warned|informed|reminded|assured|notified|convinced) (?:me|us|him|her|them|everyone)\b"
    rf"|\bi(?:'ve| have|'d| had)? (?:just |once |recently |also )*(?:heard|read|overheard|googled)\b|\bi (?:was|am|have been"
    rf"|got|'ve been) (?:told|informed|taught|reading)\b"
    rf"|\bi (?:learn(?:ed|t)|saw|found|found out|noticed|discovered) (?:that|from|in|on|online|somewhere|it|this|out)\b"
    rf"|\b{MEDIUM}\b[^.!?\n]{{0,60}}\b(?:states?|reads?|reports?|mentions?|shows?|writes?|wrote|lists?|has it|describes?"
    rf"|calls?|goes|went|contains?|suggests?|explains?|notes?|claims?)\b"
    rf"|\b(?:from|in|on|via|by|see|source|cf\.?|ref) (?:the |an? |this |that |my |their )?(?:\w+ )?(?:wikipedia|wiki|internet"
    rf"|web|encyclop\w+)\b|\(\s?(?:source|via|from|see|wikipedia)"
    rf"|(?:^|[.!?] )(?:in|on|from) (?:the |this |that |an? |his |her |my |today's )?{MEDIUM}\b|\bper \w+,|\bon (?:tv|the tv"
    rf"|the radio|the news|television)\b"
    rf"|\bword on the street\b|^[^.!?\n]{{1,40}}\)\s*:|\bonline that\b"
    rf"|\b(?:they|people|some|experts|scientists|everyone|everybody|critics|sources|legend|word) (?:say|said|claim|believe"
    rf"|think|has it|is that)\b"
    rf"|\bit(?: is|'s| was| has been) (?:widely |often |also |generally )?(?:said|reported|claimed|believed|known|rumou?red"
    rf"|written|stated|alleged|thought|confirmed)\b"
    rf"|\b(?:was|is|were|are|'s|be|goes) like,|\bwrote\s*(?:[,:]|$)|, (?:wrote|writes|claims?|asked|explains?|explained|adds?"
    rf"|added|notes?)\b|\[\d+\]"
    rf"|\b(?:copied|pasted|forwarded|forwarding|excerpt|transcript|verbatim|citation|original message|the following"
    rf"|as follows|here is what|see below|see above)\b"
    rf"|\b(?:here|this|that|these|below|above) (?:is|are|was|comes|follows)\b[^.!?\n]{{0,60}}:"
    rf"|\b(?:the|this|your|its|an?|our) (?:ai|assistant|bot|chat ?bot|model|llm)(?:'s)? (?:\w+ )?(?:answer|repl|respon|output"
    rf"|wrote|generat|believ|think|suggest|produc)\w*"
    rf"|\byour (?:last |previous |earlier |own |first )*(?:answer|reply|message|response|output|words|text)\b"
    rf"|\byou (?:\w+ )?(?:wrote|replied|answered|claim|think|believe|know|mention|explain|gave|taught)\w*\b"
    rf"|[.!?,]?\s[-–—~]{{1,2}}\s?(?-i:(?:[A-Z][\w.]*\s?){{1,4}})$",
    re.IGNORECASE | re.MULTILINE,
)  # fmt: skip
# Ways to speak to a listener that say nothing of him.
ADDRESSING = re.compile(
    r"\b(?:(?:just so|as|and|but)? ?you (?:should |may |might |must )?(?:know|see)|i (?:want|need|would like"
    r"|'d like) you to (?:know|remember)"
    r"|i(?:'d| would) like to tell you|let me tell you|i(?:'ll| will| can| must) tell you|did i mention"
    r"|to tell (?:you )?the truth"
    r"|for your information|thank(?:s| you)(?: very much)?|(?:please |do not |don't |never )?(?:remember|note|know"
    r"|memori[sz]e|learn|forget)"
    r"(?: that|(?=:| my\b| i\b| our\b)))\b(?! to\b|[ ,]+(?:that )?you\b),?",
    re.IGNORECASE,
)


def own_lines(text: str) -> str:
    """The text without fenced code and pasted lines; '' where it is forged."""
    text = FENCE.sub("", text)
    return "" if is_forged(text) else PASTED_LINE.sub("", text)


def is_forged(text: str) -> bool:
    """Whether the text holds signs of a chat template, mark-up or links, as it is stored or as it looks."""
    text = ADDRESS.sub("an address", text)  # an e-mail address is personal, but not pasted
    return FORGED.search(text) is not None or FORGED.search(folded(text)) is not None


def is_somebody_elses(text: str) -> bool:
    """Whether the text reports what others say, has a label as a pasted line has it, or is of more than two lines."""
    if sum(1 for line in text.splitlines() if line.strip()) > MOST_LINES:
        return True
    labels = (match[1] for match in LABEL.finditer(text))
    if any(not OWN_LABEL.fullmatch(label.strip()) and not STATES.search(label) for label in labels):
        return True
    said = ADDRESSING.sub("", text)
    return REPORTED.search(said) is not None or is_reported(said)


def without_quotations(text: str) -> str:
    """The text without the sentences that hold a quotation; '' where quotations are half of it, or a quotation mark stands alone.

    A name in quotation marks, one word or up to three with capitals, is the user's own.
    """
    if text.count('"') == 1:
        text = INCHES.sub("\u2033", text)
    quoted = 0

    def held(match: re.Match[str]) -> str:
        nonlocal quoted
        quoted += len(match[0])
        return match[0].strip("\"'`“”„«»‹›‘’‚「」『』〝〞❝❞") if NAME.fullmatch(match[0]) else HELD

    bare = QUOTES.sub(held, text)
    if 2 * quoted >= len(text.strip()) or ODD_QUOTE.search(bare):
        return ""
    if HELD not in bare:
        return text.replace("\u2033", '"')
    return "".join(sentence for sentence in SENTENCE.findall(bare) if HELD not in sentence).strip()
