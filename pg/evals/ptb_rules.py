"""The rules of the tokenizer in pg/evals/ptb.py.

A rule is a pattern whose first group is the token, the rest being what must
follow, and a function that writes the token (None: as it is, "": not at all).
Found out from the reference's answers; every peculiarity is one of them.
"""

import functools
import re

_SP = r"[ \t\u00a0\u2000-\u200a\u3000]"
_SPNL = r"[ \t\u00a0\u2000-\u200a\u3000\n]"
_APOS = r"(?:['\u0092\u2019]|(?i:&apos;))"
_APOS_IN_WORD = r"(?:['`\u0091\u0092\u2018\u2019\u201b]|(?i:&apos;))"
_CLITIC = rf"{_APOS}(?:[msdMSD]|(?i:re|ve|ll))"  # 's 'm 'd 're 've 'll
_NUMBER = r"(?:\d*(?:[.:,\u00ad\u066b\u066c]\d+)+|\d+)"
_INSIDE = r"[,;:\u3001]"  # punctuation inside a sentence

# Letters with full stops between them; "U.S." is more than an acronym.
_ACRONYM = (
  r"(?:[A-Za-z](?:\.[A-Za-z])+|(?i:(?:canada|sino|korean|eu|japan|non)-u\.s"
  r"|u\.s\.-u\.(?:k|s\.s\.r)))"
)


def _words(text):
  """Returns a pattern of any of the words, without regard to case."""
  return "(?i:" + "|".join(text.split()) + ")"


def _capitalized(text):
  """Returns a pattern of any of the words, whose first letter has its case."""
  return "|".join(f"{w[0]}(?i:{w[1:]})" for w in text.split())


# Keep a full stop, unless a word goes on behind it.
_OFTEN_LAST = (
  "(?:"
  + _words(
    """jan feb mar apr jun jul aug sept? oct nov dec mon tues? wed thu thurs fri
    ala ariz calif colo conn ct dak fla ga ind kans? ky md mich minn mo mont neb
    nev okla penn tenn va vt wisc? wyo inc cos? corp p?pt[ye]s? ltd plc rt
    bancorp bhd assn univ intl sys bldg blvd rd bros esq jr sr (?:ed|ph)\\.d
    est ext sq tel al etc seq"""
  )
  + "|"
  + _capitalized("Ark Az Del Ill La Mass Miss Ore Pa Tex Wash")
  + ")"
)
_OFTEN_INSIDE = _words(
  """mr mrs ms mlle mme messrs drs? profs? sens? reps? attys? govs? supts? ste?
  adj adm adv asst assoc ave brig capt co?mdr col cpl det ens ft gen hon insp
  lieut lt maj msgr mt pfc pres pvt rev sfc sgt spc alex wm jos cie a\\.k\\.a
  cf dept elec invt m[ft]g natl ph treas vs"""
)
_BEFORE_NUMBERS = _words("art ca figs? nos? op pp prop")
ABBREVIATION = re.compile(f"{_OFTEN_LAST}|{_OFTEN_INSIDE}|{_BEFORE_NUMBERS}")
SPLIT = re.compile(_words("cannot gonna gotta gimme lemme wanna"))
# An acronym before one of these ends its sentence.
_SENTENCE_STARTS = _capitalized(
  r"""About According Additionally After An A As At But Earlier He Her Here
  However If In It Last Many More Mr\. Ms\. Now Once One Other Our She Since So
  Some Such That The Their Then There These They This We When While What Yet
  You"""
)

_URL_REST = r"""[^ \t\n\f\r"<>|()]+[^ \t\n\f\r"<>|.!?(){},-]"""
_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG = (
  rf"<(?:[!?][A-Za-z-][^>\n]*|{_TAG_NAME}(?: +(?:{_TAG_NAME}|{_TAG_NAME} *= *"
  rf"""(?:'[^'\n]*'|"[^"\n]*")))* */?|/{_TAG_NAME}) *>"""
)
_FILE_ENDS = _words(
  """bat bmp c class cgi cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3
  pdf php pl png ppt ps py sql tar txt wav x xml zip"""
)


@functools.cache
def starting(character):
  """Returns the rules that can describe a token starting with a character."""
  if _letter().match(character):
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
  word, letter = _word(), _alphabet()
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
  yield "a", f"(?i:https?)://{_URL_REST}", "", None
  label = r"""[^ \t\n\f\r"<>|.!?(){},"""
  yield (
    "a",
    rf"(?i:www)\.(?:{label}]+\.)+[a-zA-Z]{{2,4}}(?:/{_URL_REST})?",
    "",
    None,
  )
  yield (
    "a1.",
    rf"(?:{label}`'\-_$]+\.)+(?i:com|net|org|edu)(?:/{_URL_REST})?",
    "",
    None,
  )
  # [^...] without what ends an address; its last part also has no full stop.
  most = r"""[^ \t\n\f\r"<>|(){}\u00a0"""
  yield (
    "a1.",
    rf"(?:&(?i:lt);|<)?[a-zA-Z0-9]{most}]*@(?:{most}.]+\.)*{most}.]+"
    "(?:&(?i:gt);|>)?",
    "",
    None,
  )
  yield ".", f"@[a-zA-Z_][a-zA-Z_0-9]*|#{_letters()}+", "", None
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
  yield ".", r"[\u00bc\u00bd\u00be\u2153-\u215e]", "", _fraction
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
    _currency,
  )


def _stops():
  """Tokens that a full stop can belong to."""
  an = f"[{_alphabet()}\\d]"
  ends = rf"{_SPNL}+(?:(?:{_SENTENCE_STARTS})(?:{_SPNL}|[?!])|{_TAG}{_SPNL})"
  yield "a", "[A-Za-z]", rf"\.{ends}", None
  yield "a", rf"{_ACRONYM}\.", ends, None
  yield "a", rf"{_BEFORE_NUMBERS}\.", rf"{_SPNL}?\d", None
  yield "a", rf"{_OFTEN_LAST}\.", r"[\s\S]{2}", None
  yield "a", rf"{_OFTEN_LAST}\.", "", None
  for pattern in (_OFTEN_INSIDE, _ACRONYM, "[A-Za-z]", "(?i:v)"):
    yield "a", rf"{pattern}\.", "", None
    yield "a", pattern, _SPNL, None
  yield ".", rf"{_APOS}\d\d", _SPNL, None
  name = rf"{an}+(?:[-._/]{an}+)*\.{_FILE_ENDS}"
  yield "a1", name, rf"(?:{_SPNL}|[.?!,])", None
  yield "a.", rf"{_word()}\.", _INSIDE, _no_soft_hyphen
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
  for mark, name in ("{L", "}R"):
    yield ".", re.escape(mark), "", lambda text, name=name: f"-{name}CB-"
  for mark, name in ("[L", "]R"):
    yield ".", re.escape(mark), "", lambda text, name=name: f"-{name}SB-"
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
  an = f"[{_alphabet()}\\d]"
  part = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*"
  part += rf"(?:-(?:{_ACRONYM}\.|[A-Za-z0-9\u00ad]+))+"
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


@functools.cache
def _alphabet():
  """Returns the letters up to U+FFFF as ranges of a character class."""
  codes = [code for code in range(0x10000) if chr(code).isalpha()]
  starts = [c for c in codes if not chr(c - 1).isalpha()]
  ends = [c for c in codes if not chr(c + 1).isalpha()]
  return "".join(f"\\u{a:04x}-\\u{b:04x}" for a, b in zip(starts, ends))


def _letters():
  """Returns the pattern of a letter of a word: also marks, such as of Thai."""
  marks = (
    r"\u00ad\u0237-\u024f\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u037d"
    r"\u0384\u0385\u0483-\u0487\u0591-\u05bd\u064b-\u065e\u0670\u0900-\u0903"
    r"\u093c\u093e-\u094e\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc-\u09c4"
    r"\u09c7\u09c8\u09cb-\u09cd\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83"
    r"\u0abc-\u0acf\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03"
    r"\u0c3e-\u0c56\u0d3e-\u0d44\u0d46-\u0d48\u0e30-\u0e3a\u0e47-\u0e4e\u0eb1-"
    r"\u0ebc\u0ec8-\u0ecd"
  )
  accented = "&[aeiouAEIOU](?i:acute|grave|uml);"
  return f"(?:[{_alphabet()}{marks}]|{accented})"


@functools.cache
def _letter():
  return re.compile(_letters())


def _word():
  """Returns the pattern of a word; marks inside it do not end it ("U.S.A")."""
  letter = _letters()
  part = rf"{letter}(?:{letter}|\d)*"
  return f"{part}(?:[.!?]{part})*"


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


def _fraction(text):
  named = {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
  return named.get(text, text)


def _currency(text):
  named = {"¢": "cents", "£": "#"} | dict.fromkeys("\u0080¤\u20a0€", "$")
  return named.get(text, text)


def _quotes(text):
  for pattern, quote in (
    (r"[\u0091\u2018\u201b\u2039]", "`"),
    (r"&apos;|[\u0092\u2019\u203a]", "'"),
    (r"[\u0093\u201c\u00ab]", "``"),
    (r"[\u0094\u201d\u00bb\"]|&quot;", "''"),
  ):
    text = re.sub(pattern, quote, text)
  return text
