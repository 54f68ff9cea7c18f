"""Prints the figures of a plan, those of pg/fit.py."""

from pg import chips, table


def show(found, args):
  """Prints the figures of a plan."""
  size = lambda name: readable(found[name])
  devices = f"{found['chips']} x {found['kind']}"
  print(f"{found['config']} on {found['on']}: {devices}")
  if found["described"]:
    print(f"(not a real one: as described by {found['described']})")
  print(
    f"{found['num_parameters'] / 1e6:,.1f} M parameters, {found['dtype']},"
    f" remat {found['remat']}, batch {found['batch_size']}"
  )
  names = ["parameters", "optimizer", "activations", "peak"]
  lines = [[name, size(name)] for name in names if name in found]
  print("\nmemory of each device")
  show_table([*lines, ["it has", size("has")]])
  names = ", ".join(found["replicated_names"])
  if found["chips"] > 1:
    share = f"{found['replicated_share']:.1%} of its state"
    print(
      f"whole on each: {size('replicated')} of parameters, {share}"
      f"{': ' * bool(names)}{names}"
    )
  if not found["fits"]:
    print(f"it does not fit. {found.get('failed', '')}".rstrip())
    return
  print(f"it fits, and takes {found['peak'] / found['has']:.0%}")
  if "unread" in found:
    print(f"how fast is unknown: the program has no text ({found['unread']})")
  elif "tokens_per_second" in found:
    show_token(found)
  elif "seconds" in found:
    show_speed(found, args)


def readable(size):
  """Returns bytes as text."""
  return (
    f"{size / chips.GIB:.2f} GiB"
    if size > chips.GIB
    else f"{size / 2**20:.1f} MiB"
  )


def show_table(lines):
  print("\n".join(f"  {x}" for x in table.lines(lines, words=[0])))


def show_token(found):
  """Prints what a token of all answers of a batch takes."""
  print("\na token of each answer")
  show_moved(found)
  print(f"copied: {', '.join(found['copies']) or 'nothing of 1 MiB or more'}")
  print(
    f"{found['memory'] * 1e3:.2f} ms at the memory's bandwidth,"
    f" {found['links'] * 1e3:.2f} at the links':"
    f" {found['tokens_per_second']:.0f} tokens/s at most"
  )


def show_moved(found):
  lines = [
    [kind, f"{number} times", f"{readable(size)} a device"]
    for kind, (number, size) in sorted(found["collectives"].items())
  ]
  show_table([*lines, ["reads", "", f"{readable(found['read'])} a device"]])


def show_speed(found, args):
  """Prints what a step does, and how fast it can be."""
  once, again = found["flops"] / 1e12, found["repeated"] / 1e12
  print(f"\na step: {once:.3g} TFLOP an example, {again:.3g} again in remat")
  show_moved(found)
  lines = [
    [f"products at {args.efficiency:.0%} of the peak", found["products"]],
    ["memory at its bandwidth", found["memory"]],
    ["links at theirs", found["links"]],
  ]
  print("which takes, each alone, at least")
  show_table([[name, f"{seconds:.3f} s"] for name, seconds in lines])
  rate = found["examples_per_second"]
  print(
    f"{found['seconds']:.3f} s a step if the rest goes on meanwhile:"
    f" {rate:.1f} examples/s, {rate / found['chips']:.2f} a chip"
  )
  if "hours" in found:
    print(
      f"the run: {found['steps']:,} steps, {found['hours']:.1f} hours,"
      f" {found['chip_hours']:.0f} chip-hours, without evaluation"
    )
  else:
    print("the run: its data are not here; say --num-examples of an epoch")
