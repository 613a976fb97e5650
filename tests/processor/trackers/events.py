"""What TensorBoard shows of a folder of event files, read by its own reader."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read_events(folder):
    """The reader of a folder, not of those in it; nothing is thinned out."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def scalars(folder):
    """Pairs of step and value by name."""
    events = read_events(folder)
    return {
        tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def steps(folder):
    """The steps of each name, of which none stands there twice."""
    found = {tag: [step for step, _ in pairs] for tag, pairs in scalars(folder).items()}
    assert all(sorted({*each}) == each for each in found.values())
    return found


def texts(folder):
    """Pairs of step and text by name."""
    events = read_events(folder)
    return {
        tag.removesuffix("/text_summary"): [
            (each.step, each.tensor_proto.string_val[0].decode()) for each in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }
