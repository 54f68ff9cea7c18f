r"""Asks a trained model about images.

python -m pg.predict --image docs/images/shapes.jpg \
  --prompt "detect red circle" --out out.png
python -m pg.predict --checkpoint hf://google/paligemma-3b-mix-224 \
  --image photos/ --prompt "caption en" "detect cat" --out answers.jsonl
python -m pg.predict --checkpoint runs/mine --image cat.jpg

--checkpoint is a run, or released weights in any form (see pg/weights/load.py);
without one it is `nano`, the small model of drawn shapes that comes with pg.
--image takes files, folders, patterns such as "*.jpg" and videos, of which the
model sees --num-images frames; --data takes a file of JSON lines with "image"
and "prefix". Every prompt is asked about every image; without a --prompt they
are read line by line, and the image is looked at once.

--adapter cats=runs/cats --adapter dogs=peft_folder loads adapters of the
checkpoint beside it. Lines of --data name theirs, "adapter": "cats" (null is
the checkpoint itself); what names none is asked of every adapter.

--out draws boxes and masks (.png, .jpg), or writes a JSON line for each answer
(.jsonl): the same command continues such a file. A folder, as in answers/, gets
answers.jsonl and a picture of each. --json prints those lines.
What cannot be read is listed at the end, and the rest is answered.

The model sees images as it did in training, which is part of a checkpoint. A
file without a record of it is taken for big_vision's (bv), a folder for Hugging
Face's (hf); both see photos upright. --pp names another way: bv, hf, or ops
such as "decode | resize(224, antialias=False)" (see pg/pp/flavours.py).
"""

import functools
import glob
import itertools
import json
import os
import sys

import numpy as np
from PIL import Image

from pg import atomic, command, config, progress
from pg.ask import images as images_lib
from pg.ask import load as load_lib
from pg.ask import model
from pg.data.storage import files as files_lib
from pg.decode import constraint, sampling
from pg.log import mirror
from pg.pp import clip
from pg.pp import image as image_ops
from pg.weights import hub

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg")
ONE_DEVICE = dict(replica=1, fsdp=1, tensor=1)
NUM_FRAMES = 16  # of a video, where --num-images does not say
BEGIN = b'{"image": ['  # of a line of answers
ANSWERS = "answers.jsonl"  # in a folder of pictures


def table(boxes):
  """Returns boxes as text, one per line, in pixels."""
  lines = [f"{'label':24} {'y1':>7} {'x1':>7} {'y2':>7} {'x2':>7}  score"]
  for one in boxes:
    numbers = " ".join(f"{x:7.1f}" for x in one.box)
    score = "" if one.score is None else f"{one.score:7.2f}"
    lines.append(f"{progress.plain(one.label):24} {numbers} {score}")
  return "\n".join(lines)


def find(names):
  """Returns the files that --image names: of folders and patterns, sorted.

  Raises:
    ValueError: a folder or a pattern without images, or no such file.
  """
  found = []
  for name in names:
    files = [name]
    if os.path.isdir(name):
      files = sorted(
        os.path.join(name, x)
        for x in os.listdir(name)
        if x.lower().endswith(IMAGES + VIDEOS)
      )
    elif not os.path.exists(name) and glob.has_magic(name):
      files = sorted(glob.glob(name, recursive=True))
    elif not os.path.exists(name) and "://" not in name:
      raise FileNotFoundError(f"there is no image {name}")
    if not files:
      raise ValueError(f"there are no images in {name}")
    found += files
  return found


def frames(path, num):
  """Returns `num` frames of a video, from its first to its last, as a list."""
  video = clip.Clip(path)
  return video.read(np.linspace(0, len(video) - 1, num).round().astype(int))


def adapters(args):
  """Returns {name: path} of --adapter NAME=PATH.

  Raises:
    ValueError: it is something else, or a name is there twice.
  """
  found = {}
  for text in args.adapter or []:
    name, equals, path = text.partition("=")
    if not (name and path) or name in found:
      raise ValueError(
        f"--adapter {text}: wanted NAME=PATH, each name once, such as"
        " cats=runs/cats"
      )
    found[name] = path
  return found


def questions(args):
  """Returns what is asked: a list of (names of images, prompt, adapter).

  Raises:
    ValueError, OSError: no images, or a line of --data that is no question.
  """
  named = [*adapters(args)] or [None]
  if not args.data:
    files, size = find(args.image or []), args.num_images or 1
    groups = [[f] for f in files if is_video(f)]
    stills = [f for f in files if not is_video(f)]
    groups += [stills[i : i + size] for i in range(0, len(stills), size)]
    groups = groups or [[]]
    return list(itertools.product(groups, args.prompt or [None], named))
  found, root = [], os.path.dirname(args.data)
  if args.image:
    raise ValueError("--image or --data, whose lines name their images")
  with open(files_lib.local(args.data), "rb") as lines:
    for number, line in enumerate(lines, start=1):
      if not line.strip():
        continue
      try:
        row = json.loads(line)
        names = row.get("image") or []
        names = [names] if isinstance(names, str) else names
        prompts = [row["prefix"]] if "prefix" in row else args.prompt
        names = [x if "://" in x else os.path.join(root, x) for x in names]
        own = [row["adapter"]] if "adapter" in row else named
        found += [(names, prompt + "", x) for prompt in prompts for x in own]
      except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
          f'{args.data}:{number}: wanted {{"image": "a.jpg", "prefix": "caption'
          f' en"}}, or a --prompt for lines without; got {line[:80]!r}'
        ) from error
  if not found:
    raise ValueError(f"{args.data} has no lines, or only blank ones")
  return found


def is_video(name):
  return name.lower().endswith(VIDEOS)


def look(names, num):
  """Returns the images of an example; videos become frames."""
  images = []
  for name in names:
    images += frames(name, num or NUM_FRAMES) if is_video(name) else [name]
  return images or None


class Lines:
  """A file of answers, a JSON line each, that a later start continues."""

  def __init__(self, path):
    """Opens it, and cuts off a line that a kill left half written.

    Raises:
      ValueError: it holds other lines than answers, and stays as it is.
    """
    self._path, self.known, self._num, end = path, set(), 0, 0
    with open(path, "ab+") as file:
      file.seek(0)
      for line in file:
        try:
          row = json.loads(line)
          known = tuple(row["image"]), row["prompt"], row.get("adapter")
          self.known.add(known)
        except (ValueError, KeyError, TypeError) as error:
          begins = BEGIN.startswith(line[: len(BEGIN)])
          if begins and isinstance(error, ValueError) and line[-1:] != b"\n":
            file.truncate(end)
            break
          raise ValueError(
            f"{path} holds other lines than answers: {line[:60]!r}; name"
            " another --out"
          ) from error
        end += len(line)
        self._num += 1

  def write(self, row):
    atomic.append(self._path, _json(row).encode() + b"\n")
    self._num += 1

  def picture(self, names):
    """Returns the path of the picture beside the next line."""
    stem = os.path.splitext(os.path.basename(names[0]))[0]
    name = f"{self._num + 1:05}-{stem}.png"
    return os.path.join(os.path.dirname(self._path), name)


def _json(row):
  """Returns a row as JSON; of a file's name, bytes that are no UTF-8, too."""
  text = json.dumps(row, ensure_ascii=False)
  return text.encode(errors="backslashreplace").decode()


def check_out(path):
  """Sees that --out can be written, before there is anything to write.

  Raises:
    ValueError, OSError: it cannot.
  """
  end = os.path.splitext(path)[1].lower()
  if (
    end != ".jsonl" and Image.registered_extensions().get(end) not in Image.SAVE
  ):
    raise ValueError(
      f"--out {path}: the name of a picture ends in .png or .jpg, of a file of"
      " answers in .jsonl, and of a folder in /"
    )
  atomic.check(path)


def check_images(images):
  """Raises ValueError or OSError where one cannot be read; it is named."""
  for image in images:
    try:
      image_ops.to_rgb(images_lib.read(image, urls=True))
    except image_ops.Undecodable as error:
      raise ValueError(f"{image}: {error}") from error


def options(args, tok):
  """Returns the options of `Model.answers` that the command line names."""
  sampler = sampling.Sampler(
    args.temperature, args.top_k, args.top_p, args.seed
  )
  if sum(map(bool, (args.constrain, args.options, args.regex))) > 1:
    raise ValueError("--constrain, --options or --regex: one of them")
  constrain = args.constrain or args.options
  if args.regex:
    constrain = constraint.regex(tok, args.regex)
  return dict(
    max_len=args.max_len,
    num_beams=args.beams,
    length_penalty=args.length_penalty,
    sampler=sampler,
    num_samples=args.samples,
    start=args.start,
    constrain=constrain,
  )


def show(answer, args):
  """Prints an answer, or draws it."""
  if args.json:
    return
  print(progress.plain(answer.text))
  for other in answer.others:
    print(progress.plain(other.text))
  if answer.boxes:
    print(table(answer.boxes))


def draw(answer, path):
  """Writes the picture of an answer; one that was there stays on an error."""
  form = Image.registered_extensions()[os.path.splitext(path)[1].lower()]
  with atomic.replacing(path) as partial:
    answer.draw().save(partial, form)


def keep(answer, names, prompt, args, lines=None, adapter=None):
  """Prints an answer as JSON, appends it to a file, draws it: as is wanted."""
  own = {"adapter": adapter} if adapter else {}
  row = {"image": names, "prompt": prompt, **own, **answer.to_json()}
  picture = None if lines else args.out
  if args.pictures and names:
    picture = lines.picture(names)
    row["picture"] = os.path.basename(picture)
  if picture:  # before the line, which is not written again after a kill
    draw(answer, picture)
  if lines:
    lines.write(row)
  if args.json:
    print(_json(row), flush=True)


def ask(asked, args, loaded, how, lines=None):
  """Answers questions; prints, draws or writes each answer.

  Returns:
    list of what went wrong, a text for each question without an answer.
  """
  failed, name = [], lambda names: ", ".join(names) or "no image"
  later = lambda names: functools.partial(look, names, args.num_images)
  examples = ((later(names), *rest) for names, *rest in asked)
  quiet = len(asked) == 1 or not lines
  bar = progress.Bar(total=len(asked), unit=" answers", disable=quiet)
  answers = loaded.answers(examples, batch_size=args.batch_size, **how)
  with bar:
    for (names, prompt, adapter), answer in zip(asked, answers, strict=True):
      bar.update()
      if isinstance(answer, Exception):
        known = any(x in str(answer) for x in names)
        failed.append(str(answer) if known else f"{name(names)}: {answer}")
        continue
      if not lines and len(asked) > 1 and not args.json:
        by = f" ({adapter})" if adapter else ""
        print(progress.plain(f"{name(names)}: {prompt}{by}"))
      if not lines:
        show(answer, args)
      keep(answer, names, prompt, args, lines, adapter)
  return failed


def converse(names, adapter, args, loaded, how, lines=None):
  """Answers prompts from standard input; images are looked at once."""
  loaded = loaded.with_adapter(adapter)
  seen = loaded.see(look(names, args.num_images))
  while True:
    try:
      prompt = input("> " if sys.stdin.isatty() else "")
    except EOFError:
      return []
    if not prompt.strip():
      continue
    try:
      (answer,) = loaded.predict(seen, prompt, **how)
    except ValueError as error:
      progress.say(f"error: {error}")
      continue
    show(answer, args)
    keep(answer, names, prompt, args, lines, adapter)


def main(args):
  out = args.out or ""
  args.pictures = out.endswith("/") or os.path.isdir(out)
  out = os.path.join(out, ANSWERS) if args.pictures else args.out
  with mirror.out(out) as args.out:
    _predict(args)


def _predict(args):
  asked, lines = questions(args), None
  if len(asked) > 1 and asked[0][1] is None:
    raise ValueError("a --prompt is wanted for several images or adapters")
  if args.out:
    check_out(args.out)
    if args.out.lower().endswith(".jsonl"):
      lines = Lines(args.out)
      before = len(asked)
      asked = [x for x in asked if (tuple(x[0]), *x[1:]) not in lines.known]
      if before > len(asked):
        progress.say(f"{before - len(asked)} of {before} are in {args.out}")
    elif len(asked) > 1:
      raise ValueError(
        f"--out {args.out} is one picture, and there are {len(asked)} answers;"
        " name a file of answers, such as answers.jsonl, or a folder: answers/"
      )
    elif not asked[0][0]:
      raise ValueError(f"--out {args.out}: there is no image to draw on")
  if not asked:
    return
  if len(asked) == 1:  # else the others are answered
    check_images(look(asked[0][0], args.num_images) or ())
  progress.say(f"loading {args.checkpoint}")
  loaded = load_lib.load(
    args.checkpoint,
    tokenizer=args.tokenizer,
    dtype=args.dtype,
    res=args.res,
    pp=args.pp,
    codec=args.mask_codec,
    urls=True,  # those of a command line are its user's own
    quantize=args.quantize,
    mesh=args.mesh and dict(config.arguments(args.mesh, **ONE_DEVICE)),
    adapters=adapters(args),
  )
  how = options(args, loaded.form.tok)
  if asked[0][1] is None:
    return converse(asked[0][0], asked[0][2], args, loaded, how, lines)
  progress.say("compiling and answering")
  failed = ask(asked, args, loaded, how, lines)
  if len(asked) == 1 and failed:
    raise ValueError(failed[0])
  if failed:
    listed = "\n  ".join(failed[:20])
    more = f"\n  and {len(failed) - 20} more" * (len(failed) > 20)
    raise ValueError(
      f"{len(failed)} of {len(asked)} have no answer:\n  {listed}{more}"
    )


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    checkpoint=dict(
      default=hub.NANO,
      help="a run, or released weights; default the small model of pg",
    ),
    adapter=dict(
      action="append", metavar="NAME=PATH", help="one of the checkpoint's"
    ),
    image=dict(nargs="+", help="files, folders, patterns, videos"),
    data=dict(metavar="FILE", help="JSON lines with image and prefix"),
    prompt=dict(nargs="+", help='such as "caption en" or "detect cat"'),
    num_images=dict(type=int, help="images of an example; frames of a video"),
    tokenizer=dict(help="SentencePiece file; default the run's own"),
    dtype=dict(
      choices=("float32", "bfloat16", "float16"),
      help="default: what is fastest",
    ),
    quantize=dict(help="weights to int8, int4 or nf4: less memory"),
    res=dict(type=int, help="pixels per side; default the model's own"),
    pp=dict(help="how it sees images: bv, hf or ops; default as trained"),
    mesh=dict(metavar="AXIS=SIZE", help="of devices, such as tensor=-1: all"),
    mask_codec=dict(metavar="FILE", help="what mask codes mean"),
    out=dict(metavar="FILE", help="out.png, answers.jsonl, or a folder/"),
    json=dict(action="store_true", help="print a JSON object an answer"),
    batch_size=dict(type=int, default=model.BATCH_SIZE, help="at most"),
    max_len=dict(type=int, help="tokens in the answer"),
    beams=dict(type=int, default=1, help="of a beam search"),
    length_penalty=dict(type=float, help="of beams, as in transformers"),
    samples=dict(type=int, default=1, help="answers to draw of each"),
    temperature=dict(type=float, default=0.0, help="0 is greedy"),
    top_k=dict(type=int, default=0, help="0 keeps all"),
    top_p=dict(type=float, default=1.0, help="1 keeps all"),
    seed=dict(type=int, default=0, help="of sampling"),
    start=dict(default="", help="the beginning of the answer"),
    constrain=dict(choices=("boxes", "masks"), help="what detect names"),
    options=dict(nargs="+", help="the answers there are"),
    regex=dict(help="what an answer looks like"),
  )
