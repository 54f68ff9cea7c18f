"""Prompts for scenes, and their captions in four languages.

`PROMPTS` has every wording of every prompt, in PaliGemma's own syntax (arXiv
2407.07726, section 3.2.5) where that has one. The last wording of each is
never used in training: it is what the split "template" asks with. All its
words are known from other prompts, so only their order is new.
"""

from pg.data.synthetic import scenes

PROMPTS = {
  "caption": ("caption {language}", "caption {language} the image"),
  "grounded": ("caption {box}", "caption the object {box}"),
  "ocr": ("ocr", "ocr the image"),
  "detect": ("detect {things}", "detect the {things}"),
  "refer": (
    "detect the {shape} {side} the {anchor}",
    "detect the {shape} which is {side} the {anchor}",
  ),
  "segment": ("segment {things}", "segment the {things}"),
  "question": ("question en {answer}", "question en is {answer}"),
  "color": (
    "answer en what color is the {shape}?",
    "answer en which color does the {shape} have?",
    "answer en the {shape} is what color?",
  ),
  "shape": (
    "answer en what shape is the {color} object?",
    "answer en which shape does the {color} object have?",
    "answer en the {color} object is what shape?",
  ),
  "size": (
    "answer en what size is the {color} {shape}?",
    "answer en which size does the {color} {shape} have?",
    "answer en the {color} {shape} is what size?",
  ),
  "where": (
    "answer en where is the {color} {shape}?",
    "answer en where in the image is the {color} {shape}?",
    "answer en the {color} {shape} is where?",
  ),
  "open": (
    "answer en what objects are in the image?",
    "answer en what objects are there?",
    "answer en which objects are in the image?",
  ),
  "which": (
    "answer en which of {a}, {b} are in the image?",
    "answer en which of {a}, {b} are there?",
  ),
  "exists": (
    "answer en is there a {color} {shape}?",
    "answer en is a {color} {shape} in the image?",
    "answer en does the image have a {color} {shape}?",
  ),
  "side": (
    "answer en is the {a} {side} the {b}?",
    "answer en the {a} is {side} the {b}?",
  ),
  "total": (
    "answer en how many objects are there?",
    "answer en how many objects are in the image?",
    "answer en there are how many objects?",
  ),
  "count_color": (
    "answer en how many {color} objects are there?",
    "answer en how many {color} objects are in the image?",
    "answer en how many objects are {color}?",
  ),
  "count_shape": (
    "answer en how many {shapes} are there?",
    "answer en how many {shapes} are in the image?",
    "answer en there are how many {shapes}?",
  ),
  "more": (
    "answer en the {where} image has more objects",
    "answer en there are more objects in the {where} image",
  ),
  "both": (
    "answer en both images have a {shape}",
    "answer en a {shape} is in both images",
  ),
  "only": (
    "answer en only the {where} image has a {color} object",
    "answer en a {color} object is only in the {where} image",
  ),
}

PLURALS = {name: name + "s" for name in scenes.SHAPES} | {"cross": "crosses"}

# Noun and gender, adjective stem or form, and size, by language.
_DE_NOUN = {
  "circle": ("Kreis", "m"),
  "square": ("Quadrat", "n"),
  "triangle": ("Dreieck", "n"),
  "cross": ("Kreuz", "n"),
  "ring": ("Ring", "m"),
}
_DE_COLOR = {
  "red": "rot",
  "green": "grün",
  "blue": "blau",
  "yellow": "gelb",
  "purple": "violett",
  "brown": "braun",
  "black": "schwarz",
  "white": "weiß",
}
_DE_SIZE = {"small": "klein", "large": "groß"}
_ES_NOUN = {
  "circle": ("círculo", "m"),
  "square": ("cuadrado", "m"),
  "triangle": ("triángulo", "m"),
  "cross": ("cruz", "f"),
  "ring": ("anillo", "m"),
}
# A final "o" becomes "a" beside a feminine noun; other endings stay.
_ES_COLOR = {
  "red": "rojo",
  "green": "verde",
  "blue": "azul",
  "yellow": "amarillo",
  "purple": "morado",
  "brown": "marrón",
  "black": "negro",
  "white": "blanco",
}
_ES_SIZE = {"small": "pequeño", "large": "grande"}
_ZH_NOUN = {
  "circle": "圆形",
  "square": "方形",
  "triangle": "三角形",
  "cross": "十字形",
  "ring": "圆环",
}
_ZH_COLOR = {
  "red": "红色",
  "green": "绿色",
  "blue": "蓝色",
  "yellow": "黄色",
  "purple": "紫色",
  "brown": "棕色",
  "black": "黑色",
  "white": "白色",
}
_ZH_SIZE = {"small": "小", "large": "大"}


def size(item):
  """Returns "small" or "large"."""
  return next(name for name, n in scenes.SIZES.items() if n == item.size)


def phrase(item, *, sized=False):
  """Returns what an object is called in English, such as "small red ring"."""
  words = (size(item),) * sized + (item.color, item.shape)
  return " ".join(words)


def _en(item, sized):
  return "a " + phrase(item, sized=sized)


def _de(item, sized):
  """Nominative with "ein": the adjectives carry the gender's ending."""
  noun, gender = _DE_NOUN[item.shape]
  stems = (_DE_SIZE[size(item)],) * sized + (_DE_COLOR[item.color],)
  ending = {"m": "er", "n": "es"}[gender]
  return " ".join(["ein", *(stem + ending for stem in stems), noun])


def _es(item, sized):
  noun, gender = _ES_NOUN[item.shape]
  words = (_ES_COLOR[item.color],) + (_ES_SIZE[size(item)],) * sized
  if gender == "f":
    words = tuple(w[:-1] + "a" if w.endswith("o") else w for w in words)
  return " ".join([{"m": "un", "f": "una"}[gender], noun, *words])


def _zh(item, sized):
  return (
    f"一个{_ZH_COLOR[item.color]}的{_ZH_SIZE[size(item)] * sized}"
    + (_ZH_NOUN[item.shape])
  )


# Language -> one object, what joins objects, what joins the last one, and the
# words before a list of one and of several.
LANGUAGES = {
  "en": (_en, ", ", " and ", "there is ", "there are "),
  "de": (_de, ", ", " und ", "zu sehen ist ", "zu sehen sind "),
  "es": (_es, ", ", " y ", "hay ", "hay "),
  "zh": (_zh, "、", "和", "图中有", "图中有"),
}


def captions(items, language):
  """Returns three right captions of the objects, the plain one first.

  Args:
    items: Objects in the order to name them in.
    language: "en", "de", "es" or "zh".

  Returns:
    list of str, such as ["a red ring and a blue cross", "there are a red ring
    and a blue cross", "a large red ring and a small blue cross"].
  """
  one, comma, last, single, several = LANGUAGES[language]
  lists = []
  for sized in (False, True):
    *head, tail = (one(item, sized) for item in items)
    lists.append(comma.join(head) + last * bool(head) + tail)
  lead = several if len(items) > 1 else single
  return [lists[0], lead + lists[0], lists[1]]


def prompt(rng, kind, split, **words):
  """Returns a prompt of a kind: one of training, or in "template" the other.

  Args:
    rng: random.Random.
    kind: str, a key of PROMPTS.
    split: str.
    **words: what the kind's wordings have in braces.
  """
  *known, unseen = PROMPTS[kind]
  wording = unseen if split == "template" else rng.choice(known)
  return wording.format(**words)


def questions(kind, **words):
  """Returns the wordings of a question that training uses, bare.

  Args:
    kind: str, a key of PROMPTS that begins with "answer en ".
    **words: as in `prompt`; more than needed are fine.

  Returns:
    list of str, such as ["what color is the ring?", ...].
  """
  known = PROMPTS[kind][:-1]
  return [w.removeprefix("answer en ").format(**words) for w in known]
