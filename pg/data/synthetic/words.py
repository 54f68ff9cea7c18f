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

# German, Spanish and Chinese nouns, with their gender where there is one, and
# adjectives by their stem or masculine form.
_NOUNS = {
  "circle": (("Kreis", "m"), ("círculo", "m"), "圆形"),
  "square": (("Quadrat", "n"), ("cuadrado", "m"), "方形"),
  "triangle": (("Dreieck", "n"), ("triángulo", "m"), "三角形"),
  "cross": (("Kreuz", "n"), ("cruz", "f"), "十字形"),
  "ring": (("Ring", "m"), ("anillo", "m"), "圆环"),
}
_ADJECTIVES = {
  "red": ("rot", "rojo", "红色"),
  "green": ("grün", "verde", "绿色"),
  "blue": ("blau", "azul", "蓝色"),
  "yellow": ("gelb", "amarillo", "黄色"),
  "purple": ("violett", "morado", "紫色"),
  "brown": ("braun", "marrón", "棕色"),
  "black": ("schwarz", "negro", "黑色"),
  "white": ("weiß", "blanco", "白色"),
  "small": ("klein", "pequeño", "小"),
  "large": ("groß", "grande", "大"),
}


def size(item):
  """Returns "small" or "large"."""
  y1, x1, y2, x2 = item.box
  return "small" if (y2 - y1) * (x2 - x1) < scenes.LARGE else "large"


def phrase(item, *, sized=False):
  """Returns what an object is called in English, such as "small red ring"."""
  words = (size(item),) * sized + (item.color, item.shape)
  return " ".join(words)


def _en(item, sized):
  return "a " + phrase(item, sized=sized)


def _translated(item, column):
  """Returns size, colour and noun of an object in a column of the tables."""
  adjectives = _ADJECTIVES[size(item)], _ADJECTIVES[item.color]
  return *(a[column] for a in adjectives), _NOUNS[item.shape][column]


def _de(item, sized):
  """Nominative with "ein": the adjectives carry the gender's ending."""
  *stems, (noun, gender) = _translated(item, 0)
  ending = {"m": "er", "n": "es"}[gender]
  words = [stem + ending for stem in stems[not sized :]]
  return " ".join(["ein", *words, noun])


def _es(item, sized):
  """A final "o" becomes "a" beside a feminine noun; other endings stay."""
  how_large, color, (noun, gender) = _translated(item, 1)
  words = [color] + [how_large] * sized
  if gender == "f":
    words = [w[:-1] + "a" if w.endswith("o") else w for w in words]
  return " ".join([{"m": "un", "f": "una"}[gender], noun, *words])


def _zh(item, sized):
  how_large, color, noun = _translated(item, 2)
  return f"一个{color}的{how_large * sized}{noun}"


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


def prompt(rng, kind, setting, **words):
  """Returns a prompt of a kind: one of training, or in "template" the other.

  Args:
    rng: random.Random.
    kind: str, a key of PROMPTS.
    setting: examples.Setting.
    **words: what the kind's wordings have in braces.
  """
  *known, unseen = PROMPTS[kind]
  wording = unseen if setting.split == "template" else rng.choice(known)
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
