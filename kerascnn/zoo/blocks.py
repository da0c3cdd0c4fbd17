"""What all families are made of: a convolution with its BatchNorm and activation in the recipe's order."""

from __future__ import annotations

from dataclasses import dataclass

from keras import KerasTensor, initializers, layers


@dataclass(frozen=True)
class Style:
    """The conventions that every convolution of a network shares; each is a key of its recipe.

    The theory that the keys stand for:

    - ``initializer``: Glorot and Bengio (2010) keep the signal's variance through linear layers, Var W = 1/n, as
      implemented 2/(in + out); He et al. (2015) make up for ReLU's lost half, Var W = 2/n. n is the number of a unit's
      inputs.
    - ``batch_norm``: per channel over images, height and width, x̂ = (x - μ)/√(σ² + ε), y = γx̂ + β.
      With γ = √(σ² + ε) and β = μ it is the identity (Ioffe and Szegedy 2015). σ² is divided by n, also in the moving
      average, of which a step keeps 0.9; PyTorch's own layer divides that one by n - 1.
    """

    activation: str
    initializer: str | initializers.Initializer
    batch_norm: str
    batch_norm_momentum: float
    batch_norm_epsilon: float
    conv_bias: bool | None

    def conv(
        self,
        x: KerasTensor,
        width: int,
        *,
        name: str,
        kernel: int = 3,
        strides: int = 1,
        batch_norm_next: bool = False,
    ) -> KerasTensor:
        """A convolution alone, padded by ``kernel // 2`` on every side, as PyTorch and the papers do.

        Keras's ``same`` pads only at the end when the stride is 2.
        """
        bias = not batch_norm_next if self.conv_bias is None else self.conv_bias
        padding = "same"
        if strides > 1 and kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2, data_format="channels_last", name=f"{name}_pad")(x)
            padding = "valid"
        return layers.Conv2D(
            width,
            kernel,
            strides,
            padding,
            data_format="channels_last",
            use_bias=bias,
            kernel_initializer=self.initializer,
            name=name,
        )(x)

    def norm(self, x: KerasTensor, name: str) -> KerasTensor:
        """BatchNorm over all but the channels."""
        return layers.BatchNormalization(
            axis=-1, momentum=self.batch_norm_momentum, epsilon=self.batch_norm_epsilon, name=f"{name}_bn"
        )(x)

    def act(self, x: KerasTensor, name: str) -> KerasTensor:
        """The activation."""
        return layers.Activation(self.activation, name=f"{name}_{self.activation}")(x)

    def activate(self, x: KerasTensor, name: str) -> KerasTensor:
        """The activation with its BatchNorm before or after it, or alone."""
        if self.batch_norm == "before":
            return self.act(self.norm(x, name), name)
        x = self.act(x, name)
        return self.norm(x, name) if self.batch_norm == "after" else x

    def conv_unit(self, x: KerasTensor, width: int, *, name: str, kernel: int = 3, strides: int = 1) -> KerasTensor:
        """Convolution, then activation: the plain networks' and VGG's building block."""
        before = self.batch_norm == "before"
        return self.activate(
            self.conv(x, width, name=name, kernel=kernel, strides=strides, batch_norm_next=before), name
        )

    def linear_unit(self, x: KerasTensor, width: int, *, name: str, kernel: int = 3, strides: int = 1) -> KerasTensor:
        """Convolution with BatchNorm, if the network has any, and no activation: what an addition follows."""
        if self.batch_norm == "none":
            return self.conv(x, width, name=name, kernel=kernel, strides=strides)
        x = self.conv(x, width, name=name, kernel=kernel, strides=strides, batch_norm_next=True)
        return self.norm(x, name)

    def dense(self, x: KerasTensor, width: int, *, name: str, activation: str | None = None) -> KerasTensor:
        """A fully connected layer, linear unless an activation is given."""
        return layers.Dense(
            width,
            activation=activation,
            kernel_initializer=self.initializer,
            name=name,
        )(x)

    def logits(self, x: KerasTensor, classes: int, *, name: str = "logits") -> KerasTensor:
        """One logit a class, in float32 also under mixed precision, where softmax would lose digits."""
        return layers.Dense(classes, kernel_initializer=self.initializer, dtype="float32", name=name)(x)


def pool(x: KerasTensor, name: str) -> KerasTensor:
    """A 2×2 max pool with stride 2; what doesn't fill a window is dropped."""
    return layers.MaxPooling2D(2, data_format="channels_last", name=name)(x)


def drop(x: KerasTensor, rate: float, *, name: str) -> KerasTensor:
    """Dropout with a random generator of its own, whose state a checkpoint can hold.

    Without a seed torch draws from its global generator. The number here is only what training replaces.
    """
    return layers.Dropout(rate, seed=0, name=name)(x)
