"""Less memory for activations, with the same losses and gradients."""

import pytest
import torch

from config import cfg_base

SIE = ("MODEL.SIE_CAMERA", True)


def loss_and_gradients(model, images):
    """A loss over the whole batch, which couples its images, and every gradient by name."""
    model.double().train().zero_grad()  # float64: what differs is the method, not the rounding
    output = model(images.double(), camids=torch.arange(len(images)) % 6)
    coupled = [feature @ feature.T for feature in output.metric]
    loss = sum(product.softmax(dim=1).square().mean() for product in coupled) + sum(
        logits.square().mean() for logits in output.logits
    )
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(got, wanted):
    torch.testing.assert_close(got[0], wanted[0], rtol=1e-12, atol=0)
    assert got[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        assert (got[1][name] - gradient).abs().max() <= 1e-10 * gradient.abs().max(), name


@pytest.mark.parametrize("pairs", [(), SIE])
@pytest.mark.parametrize(
    "saving", [("SOLVER.MICRO_BATCH", 2), ("SOLVER.MICRO_BATCH", 3), ("SOLVER.GRAD_CHECKPOINT", True)]
)
def test_losses_and_gradients_are_those_of_the_whole_batch(toy_model, toy_images, saving, pairs):
    wanted = loss_and_gradients(toy_model(*pairs), toy_images(8))
    assert ("cv_embed" in wanted[1]) == bool(pairs)
    assert_same(loss_and_gradients(toy_model(*saving, *pairs), toy_images(8)), wanted)


def test_both_together(toy_model, toy_images):
    wanted = loss_and_gradients(toy_model(tree=cfg_base), toy_images(8))
    both = toy_model("SOLVER.MICRO_BATCH", 4, "SOLVER.GRAD_CHECKPOINT", True, tree=cfg_base)
    assert_same(loss_and_gradients(both, toy_images(8)), wanted)


def kept_for_the_gradient(model, images):
    """Bytes of distinct activations that a training forward pass keeps."""
    kept, weights = {}, {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.train()(images)  # alive to the end of the count, so that no address is used twice
        return sum(kept.values()), output


@pytest.mark.parametrize(
    ("saving", "share"), [(("SOLVER.MICRO_BATCH", 2), 0.2), (("SOLVER.GRAD_CHECKPOINT", True), 0.7)]
)
def test_fewer_activations_are_kept(toy_model, toy_images, saving, share):
    whole, _ = kept_for_the_gradient(toy_model(), toy_images(8))
    less, _ = kept_for_the_gradient(toy_model(*saving), toy_images(8))
    assert less < share * whole


def test_parts_hold_so_many_images(toy_model, toy_images, monkeypatch):
    model, sizes = toy_model("SOLVER.MICRO_BATCH", 3), []
    model.image_encoder.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    output = model.train()(toy_images(8))
    assert sizes == [3, 3, 2]
    output.projected.sum().backward()
    assert sizes == [3, 3, 2, 2, 3, 3]  # again, one part at a time
    sizes.clear()
    with torch.no_grad():
        model(toy_images(8))
        model.eval()(toy_images(8))
    assert sizes == [8, 8]


@pytest.mark.parametrize(
    ("pair", "allowed"),
    [
        (("SOLVER.MICRO_BATCH", 2), "SOLVER.MICRO_BATCH is 2; allowed with this image tower: 0"),
        (("SOLVER.GRAD_CHECKPOINT", True), "SOLVER.GRAD_CHECKPOINT is True; allowed with a ResNet: False"),
    ],
)
def test_resnets_are_refused(toy_model, pair, allowed):
    with pytest.raises(ValueError, match=allowed):
        toy_model("MODEL.NAME", "toy-resnet", *pair)
