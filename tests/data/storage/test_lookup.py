"""Files are found by the names that tools and other machines wrote."""

import unicodedata

import pytest

from pg.data.storage import files, lookup

HERE = (
  "images/7.jpg",
  "images/my cat.JPG",
  "images/Straße.png",
  "images/A.png",
  "images/a.png",
  "train/1.jpg",
  "val/2.jpg",
  "3.jpg",
  unicodedata.normalize("NFD", "images/ü.jpg"),
)


@pytest.fixture
def root(tmp_path):
  folder = tmp_path / "Birds"
  for name in HERE:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"image")
  return folder


FOUND = [
  ("images/7.jpg", "images/7.jpg"),
  ("./images//7.jpg", "images/7.jpg"),
  ("images\\7.jpg", "images/7.jpg"),
  ("IMAGES/7.JPG", "images/7.jpg"),
  (" images/7.jpg\r\n", "images/7.jpg"),
  ("images/My Cat.jpg", "images/my cat.JPG"),
  ("images/STRASSE.PNG", "images/Straße.png"),
  ("images/ü.jpg", HERE[-1]),
  ("C:\\Users\\me\\birds\\images\\7.jpg", "images/7.jpg"),
  ("c:/users/me/Images/7.jpg", "images/7.jpg"),
  ("\\\\server\\share\\images\\7.jpg", "images/7.jpg"),
  ("/home/me/birds/images/7.jpg", "images/7.jpg"),
  ("D:\\3.jpg", "3.jpg"),
  ("birds/images/7.jpg", "images/7.jpg"),  # the folder's own name
  ("data/images/7.jpg", "images/7.jpg"),  # Darknet, CVAT
  ("images/A.png", "images/A.png"),
  ("images/a.png", "images/a.png"),
]


@pytest.mark.parametrize(("written", "found"), FOUND)
def test_a_name_is_found_as_it_is_here(written, found, root):
  assert lookup.find(written, root) == found
  assert files.read(written, root) == b"image"
  files.check(written, root)


NOT_FOUND = [
  "images/8.jpg",
  "val/3.jpg",  # 3.jpg is another image
  "val/1.jpg",
  "C:\\birds\\val\\1.jpg",
  "C:\\birds\\train\\3.jpg",
  "other/3.jpg",
  "other/images/7.jpg",
  "..\\images\\7.jpg",
  "IMAGES/A.PNG",  # either of two
  "",
  "..",
  "/",
  "C:\\",
  "images/7.jpg/7.jpg",
  "a\0b",
]


@pytest.mark.parametrize("written", NOT_FOUND)
def test_another_file_is_not_taken_for_it(written, root):
  assert lookup.find(written, root) is None
  assert lookup.find(written, root / "none") is None


def test_a_path_that_is_here_is_not_looked_for_elsewhere(root, tmp_path):
  (tmp_path / "images").mkdir()
  (tmp_path / "images/7.jpg").write_bytes(b"another")
  name = str(tmp_path / "images/7.jpg")
  assert lookup.find(name, root) is None
  with pytest.raises(ValueError, match="is not in .*; set image_root"):
    files.read(name, root)


def test_a_file_that_came_later_is_found(root):
  assert lookup.find("images/9.JPG", root) is None
  (root / "images/9.jpg").write_bytes(b"image")
  assert lookup.find("images/9.JPG", root) == "images/9.jpg"
