"""The rules of the tokenizer in pg/evals/metrics/ptb.py.

A rule is a pattern whose first group is the token, the rest being what must
follow, and a function that writes the token (None: as it is, "": not at all).
Learned from the reference's answers and the grammars of its other versions, and
written anew; every peculiarity is one of its answers.
"""

import functools
import re

from pg.evals.metrics import ptb_words

_SP = r"[ \t\u00a0\u2000-\u200a\u3000]"
_SPNL = r"[ \t\u00a0\u2000-\u200a\u3000\n]"
_APOS = r"(?:['\u0092\u2019]|(?i:&apos;))"
_APOS_IN_WORD = r"(?:['`\u0091\u0092\u2018\u2019\u201b]|(?i:&apos;))"
_CLITIC = rf"{_APOS}(?:[msdMSD]|(?i:re|ve|ll))"  # 's 'm 'd 're 've 'll
_NUMBER = r"(?:\d*(?:[.:,\u00ad\u066b\u066c]\d+)+|\d+)"
_INSIDE = r"[,;:\u3001]"  # punctuation inside a sentence

_URL_END = r"""[^ \t\n\f\r"<>|.!?(){},-]"""
_PATH = rf"""(?:/[^ \t\n\f\r"<>|()]+{_URL_END})?"""
_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG = (
  rf"<(?:[!?][A-Za-z-][^>\n]*|{_TAG_NAME}(?: +(?:{_TAG_NAME}|{_TAG_NAME} *= *"
  rf"""(?:'[^'\n]*'|"[^"\n]*")))* */?|/{_TAG_NAME}) *>"""
)


@functools.cache
def starting(character):
  """Returns the rules that can describe a token starting with a character."""
  if ptb_words.letter().match(character):
    kind = "a"
  else:
    kind = "1" if character.isdecimal() else "."
  return [(p, write) for p, write, kinds in _rules() if kind in kinds]


@functools.cache
def _rules():
  rules = [*_split(), *_names(), *_numbers(), *_stops(), *_marks(), *_rest()]
  return [
    (re.compile(f"({pattern}){then}"), write, kinds)
    for kinds, pattern, then, write in rules
  ]


def _split():
  """Words of two tokens, and words before an apostrophe."""
  word, letter = ptb_words.word(), ptb_words.alphabet()
  yield "a", "(?i:can)", "(?i:not)", None
  yield "a", "(?i:gon|wan)", "(?i:na)", None
  yield "a", "(?i:got)", "(?i:ta)", None
  yield "a", "(?i:gim|lem)", "(?i:me)", None
  yield ".", "'(?i:t)", "(?i:was)", None
  yield ".", f"{_APOS}(?i:t)", "(?i:is)", None
  yield "a", r"(?i:c\+\+|[cf]#)", "", None
  yield ".", _TAG, "", _solid
  yield ".", r"&(?i:mdash|ndash|md);|[\u0096\u0097\u2013-\u2015]", "", _nothing
  yield ".", "(?i:&amp;)", "", _ampersand
  yield ".", "&(?:(?i:ht|tl|ur|lr|q[clr]|odq|cdq)|#[0-9]+);", "", None
  yield "a.", word, _CLITIC, _no_soft_hyphen
  yield (
    "a.",
    r"[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*",
    f"(?i:n){_APOS_IN_WORD}(?i:t)",
    _no_soft_hyphen,
  )
  yield "a.", word, "", _no_soft_hyphen
  # Words with an apostrophe that are one token.
  for pattern in (
    f"{_APOS}(?i:n){_APOS}?",
    f"[lLdDjJ]{_APOS}",
    f"(?i:dunkin|somethin|ol){_APOS}",
    f"{_APOS}(?i:em|till?|cause|[2-9]0s)",
    f"[A-HJ-XZn]{_APOS_IN_WORD}[{letter}]{{2,}}",
    f"[{letter}]+[aeiouyAEIOUY]{_APOS_IN_WORD}[aeiouA-Z][{letter}]*",
    f"(?i:o){_APOS_IN_WORD}(?i:o)",
    r"(?i:cont'd\.?|'twas|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)",
  ):
    yield "a.", pattern, "", None
  yield "a", f"(?i:y){_APOS}", f"[{letter}]", None


def _names():
  """Addresses and names of the web, and what is left of a clitic."""
  # Classes without a bracket at their end, for more to be added.
  body = r"""[^ \t\n\f\r"<>|(){}"""
  yield "a", f"(?i:https?)://{body}]+{_URL_END}", "", None
  label = rf"{body}.!?,"
  yield (
    "a",
    rf"(?i:www)\.(?:{label}]+\.)+[a-zA-Z]{{2,4}}{_PATH}",
    "",
    None,
  )
  yield (
    "a1.",
    rf"(?:{label}`'\--_$]+\.)+(?i:com|net|org|edu){_PATH}",
    "",
    None,
  )
  most = rf"{body}\u00a0"
  yield (
    "a1.",
    rf"(?:&(?i:lt);|<)?[a-zA-Z0-9]{most}]*@(?:{most}.]+\.)*{most}.]+"
    "(?:&(?i:gt);|>)?",
    "",
    None,
  )
  yield ".", f"@[a-zA-Z_][a-zA-Z_0-9]*|#{ptb_words.letters()}+", "", None
  yield ".", _CLITIC, "[^A-Za-z]", _quotes
  yield "a", f"(?i:n){_APOS_IN_WORD}(?i:t)", "", _quotes


def _numbers():
  yield "1", r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", "", None
  yield "a1.", f"[-+]?{_NUMBER}", "", _no_soft_hyphen
  sub, sup = r"[\u2080-\u2089]", r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]"
  yield ".", rf"[\u207a\u207b\u208a\u208b]?(?:{sup}+|{sub}+)", "", None
  fraction = r"\d{1,4}(?:\\?/|\u2044)\d{1,4}"
  yield "1", fraction, "", None
  yield "1", rf"\d{{1,4}}[- \u00a0]{fraction}", "", _solid
  yield ".", r"[\u00bc\u00bd\u00be\u2153-\u215e]", "", _named
  yield (
    "a.",
    r"-(?i:[rlc][rc]b|[rl]sb)-|(?i:c\.d\.s|pro-|anti-|s(?:&|&amp;)p-500"
    rf"|s(?:&|&amp;)ls|cap{_APOS}n|c{_APOS}est)",
    "",
    _ampersand,
  )
  part = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
  yield "a1", rf"{part}(?:\\?/{part}){{1,2}}", "", None
  yield "a.", r"[A-Z]*\$|#", "", None
  yield (
    ".",
    r"[\u00a2-\u00a5\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5"
    r"\uffe6]",
    "",
    _named,
  )


def _stops():
  """Tokens that a full stop can belong to."""
  an = f"[{ptb_words.alphabet()}\\d]"
  ends = f"{_SPNL}+(?:{ptb_words.SENTENCE_STARTS}|{_TAG}){_SPNL}"
  yield "a", "[A-Za-z]", rf"\.{ends}", None
  yield "a", rf"{ptb_words.ACRONYM}\.", ends, None
  yield "a", rf"{ptb_words.BEFORE_NUMBERS}\.", rf"{_SPNL}?\d", None
  yield "a", rf"{ptb_words.OFTEN_LAST}\.", r"[\s\S]{2}", None
  yield "a", rf"{ptb_words.OFTEN_LAST}\.", "", None
  for pattern in (
    ptb_words.OFTEN_INSIDE,
    ptb_words.ACRONYM,
    "[A-Za-z]",
    "(?i:v)",
  ):
    yield "a", rf"{pattern}\.", "", None
    yield "a", pattern, _SPNL, None
  yield ".", rf"{_APOS}\d\d", _SPNL, None
  name = rf"{an}+(?:\.{an}+)*\.{ptb_words.FILE_ENDS}"
  yield "a1", name, rf"(?:{_SPNL}|[.?!,])", None
  yield "a.", rf"{ptb_words.word()}\.", _INSIDE, _no_soft_hyphen
  for pattern in (
    r"\(\d{2,3}\)[ \u00a0]?\d{3,4}[- \u00a0]?\d{3,5}",
    r"(?:\+\+?)?(?:\d{2,4}[- \u00a0])?\d{2,4}[- \u00a0]\d{3,4}[- \u00a0]?"
    r"\d{3,5}",
    r"(?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}",
  ):
    yield "1.", pattern, "", _bracketed  # telephone numbers


def _marks():
  """Punctuation, brackets and smileys."""
  yield ".", r"\"|&(?i:quot);", "[A-Za-z0-9$]", _quotes
  yield ".", r"\"|&(?i:quot);", "", _quotes
  yield ".", "<|&(?i:lt);", "", lambda text: "<"
  yield ".", ">|&(?i:gt);", "", lambda text: ">"
  yield (
    ".",
    r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]",
    "[^A-Za-z0-9]",
    _bracketed,
  )
  eye = r"[-\^x=~<>'"
  yield "a.", rf"{eye}]_{eye}]", "", None
  yield ".", rf"\({eye}][_.]?{eye}]\)|\({eye}]-{eye}`]\)", "", _bracketed
  for mark, name in zip("{}[]", ("-LCB-", "-RCB-", "-LSB-", "-RSB-")):
    yield ".", re.escape(mark), "", lambda text, name=name: name
  yield ".", "[()]", "", _bracketed
  yield ".", "-+", "", lambda text: text if len(text) > 4 else ""
  yield ".", r"\.{3,5}|(?:\.[ \u00a0]){2,4}\.|[\u0085\u2026]", "", _nothing
  yield ".", r"@+|#+|_+|\*+|(?:\\\*){1,3}", "", None
  yield ".", rf"{_INSIDE}|[?!]+|[=/]", "", None
  yield (
    ".",
    r"[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]",
    "",
    None,
  )


def _rest():
  """Words with hyphens, quotes and symbols."""
  an = f"[{ptb_words.alphabet()}\\d]"
  part = r"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*"
  part += rf"(?:-(?:{ptb_words.ACRONYM}\.|[A-Za-z0-9\u00ad]+))+"
  yield "a1", rf"{part}\.", _INSIDE, _no_soft_hyphen
  yield "a1", part, "", _no_soft_hyphen
  part = f"(?:[dDoOlL]{_APOS_IN_WORD}{an})?{an}+"
  part += rf"(?:[-_\u058a\u2010\u2011]{part})*"
  yield "a1", rf"{part}\.", _INSIDE, None
  yield "a1", part, "", None
  part = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"
  yield "a", rf"{part}\.", _INSIDE, _ampersand
  yield "a", part, "", _ampersand
  yield ".", "'", r"[A-Za-z][^ \t\n\u00a0]", _nothing
  yield ".", _CLITIC, "", _quotes
  quote = r"[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]"
  yield ".", f"{quote}{{1,2}}|''|{_APOS}", "", _quotes
  yield ".", "<<|>>", "", None
  yield (
    ".",
    r"[+%&~\^|\\\u00a6-\u00a9\u00ac\u00ae-\u00ba\u00d7\u00f7\u0387\u05be\u05c0"
    r"\u05c3\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060a\u060c\u0614\u061b\u061e"
    r"\u066a\u066d\u0703-\u070d\u07f6-\u07f8\u0964\u0965\u0e4f\u1fbd"
    r"\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044\u207a-"
    r"\u207f\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u3012\u30fb\uff01-\uff0f"
    r"\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]",
    "",
    None,
  )
  yield ".", rf"{_SP}+|\n|(?i:&nbsp;)", "", _nothing


def _nothing(text):
  return ""


def _no_soft_hyphen(text):
  return text.replace("\u00ad", "") or "-"


def _solid(text):
  """Writes spaces that belong to a token as no-break spaces."""
  return text.replace(" ", "\u00a0")


def _bracketed(text):
  return _solid(text).replace("(", "-LRB-").replace(")", "-RRB-")


def _ampersand(text):
  return re.sub("(?i)&amp;", "&", text)


def _named(text):
  """Writes fractions and currencies that have a name as that."""
  names = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
  names |= {"¢": "cents", "£": "#"} | dict.fromkeys("\u0080¤\u20a0€", "$")
  return names.get(text, text)


def _quotes(text):
  for pattern, quote in (
    (r"[\u0091\u2018\u201b\u2039]", "`"),
    (r"&apos;|[\u0092\u2019\u203a]", "'"),
    (r"[\u0093\u201c\u00ab]", "``"),
    (r"[\u0094\u201d\u00bb\"]|&quot;", "''"),
  ):
    text = re.sub(pattern, quote, text)
  return text
