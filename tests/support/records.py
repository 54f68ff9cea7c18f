"""Writes small files of records as other programs do, for the tests."""

import io
import struct

from PIL import Image
from tensorboardX import record_writer
from tensorflow_datasets.proto import tf_example_pb2


def png(shade):
  f = io.BytesIO()
  Image.new("RGB", (5, 4), (shade, 0, 0)).save(f, "PNG")
  return f.getvalue()


def example(**values):
  """Returns a serialized tf.train.Example; single values become lists."""
  made = tf_example_pb2.Example()
  for key, value in values.items():
    feature = made.features.feature[key]
    for item in value if isinstance(value, list) else [value]:
      if isinstance(item, float):
        feature.float_list.value.append(item)
      elif isinstance(item, int):
        feature.int64_list.value.append(item)
      else:
        data = item.encode() if isinstance(item, str) else item
        feature.bytes_list.value.append(data)
    if value == []:
      feature.bytes_list.value.extend([])
  return made.SerializeToString()


def frame(record):
  """Returns a record as it stands in a TFRecord file."""
  size = struct.pack("<Q", len(record))
  sums = [record_writer.masked_crc32c(data) for data in (size, record)]
  return size + struct.pack("<I", sums[0]) + record + struct.pack("<I", sums[1])


def write_tfrecord(path, records):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(b"".join(map(frame, records)))


def row(i, **changes):
  """Returns the Example of a made-up row."""
  values = dict(
    image=png(i), question=f"wäs {i}?", answers=["a", "b"][: i % 3], id=i
  )
  return example(**{**values, **changes})
