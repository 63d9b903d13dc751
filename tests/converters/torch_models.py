"""Small networks, each with one habit that a converter must cope with."""

import torch
from torch import nn
from torch.nn import functional


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class InPlace(nn.Module):
    """In-place activations: as a module, as a function, and one whose result is only found in its input."""

    def __init__(self):
        super().__init__()
        self.first = conv(3, 4)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.second = conv(4, 4)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        y = self.second(x)
        self.act(y)
        y = y + x
        y = functional.relu_(self.second(y)) + y
        return self.head(y.mean((2, 3)))


class InPlaceOnInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.relu(x))


class Shared(nn.Module):
    """One module in two places and called thrice, one that is never called, nesting, and a functional ReLU."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.features = nn.Sequential(conv(3, 4), self.relu, nn.Sequential(conv(4, 4), self.relu))
        self.idle = nn.Linear(2, 2)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = functional.relu(self.features(x))
        return self.head(self.relu(-x).mean((2, 3)))


class TwoInputs(nn.Module):
    """Returns a tuple with a nested dict, None and a flag; a layer returns integers."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(6, 3)
        self.best = Best()

    def forward(self, image, *, text=None):
        sum_ = self.left(image) + self.right(text)
        return sum_, {"best": self.best(sum_), "none": None}, sum_ > 0


class Best(nn.Module):
    def forward(self, x):
        return {"value": x.amax(-1), "index": x.argmax(-1)}


class Forgetful(nn.Module):
    """Dropout and batch norm in train mode, and a forward that writes into itself."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 2)
        self.seen = []
        self.register_buffer("count", torch.zeros(()))
        self.norm.eval()

    def forward(self, x):
        self.count += 1
        self.latest = x
        self.seen.append(x)
        return self.head(self.drop(self.norm(x)))


class Failing(Forgetful):
    """Runs, but cannot be traced: the data decide which way it goes."""

    def forward(self, x):
        y = super().forward(x)
        return y if float(y.sum()) > 0 else -y


class Baked(nn.Module):
    """Works for one batch size only."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(x).reshape(1, 2, 1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head(y[:, -1])


class Constant(nn.Module):
    """A layer whose value is known without the input, and one that hands its input on."""

    def __init__(self):
        super().__init__()
        self.skip = nn.Identity()
        self.positions = nn.Embedding(6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, relu):
        relu = self.skip(relu)
        return {"logits": self.head(relu + self.positions(torch.arange(6))[:, 0]), "copy": relu}


class Starred(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2)

    def forward(self, first, *rest):
        return [self.head(first * sum(rest)), self.head(first)]


class WeightNormed(nn.Module):
    """Weights that are computed from others, which is no layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3))
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5))

    def forward(self, x):
        return self.head(self.conv(x).relu().mean(-1))
