"""What is saved of a network: all that no pretrained source can give back."""

from collections.abc import Mapping

from torch import Tensor, nn

from mammoprep.errors import MammoprepError


class Saved(nn.Module):
    """A network whose state can be saved without its frozen pretrained parts, and taken over again.

    `given` are the names below which pretrained parts can give every tensor back.
    """

    given: tuple[str, ...] = ()

    def trained_state(self) -> dict[str, Tensor]:
        """Give what the named pretrained parts cannot give back: what is trained, and what was random."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {
            name: value
            for name, value in self.state_dict().items()
            if name in trained or not name.startswith(self.given)
        }

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `trained_state` gave; a tensor too many, too few or of another shape is an error."""
        own = self.trained_state()
        for name in sorted(own.keys() | state.keys()):
            if name not in own or name not in state:
                whose = "model" if name in own else "saved weights"
                raise MammoprepError(f"The saved weights are another model's: only the {whose} has {name}.")
            if own[name].shape != state[name].shape:
                shapes = f"{tuple(state[name].shape)}, not {tuple(own[name].shape)}"
                raise MammoprepError(f"The saved weights are another model's: {name} has the shape {shapes}.")
        self.load_state_dict(state, strict=False)
