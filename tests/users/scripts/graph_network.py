"""A network on graphs, which gathers the features of neighbors and scatters them to the nodes."""

import torch
from torch import nn

import mpi_landscape

torch.manual_seed(0)
graphs = [(torch.randn(7, 4), torch.randint(0, 7, (2, 12)), number % 3) for number in range(30)]


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.message, self.update, self.head = nn.Linear(4, 8), nn.Linear(12, 8), nn.Linear(8, 3)

    def forward(self, nodes, edges):
        source, target = edges[:, 0, :, None], edges[:, 1, :, None]
        messages = self.message(nodes).gather(1, source.expand(-1, -1, 8))
        received = torch.zeros(*nodes.shape[:2], 8, dtype=nodes.dtype).scatter_add(
            1, target.expand(-1, -1, 8), messages
        )
        return self.head(torch.relu(self.update(torch.cat([nodes, received], 2))).mean(1))


model = Convolution()
surface = mpi_landscape.landscape(
    model, nn.CrossEntropyLoss(), graphs, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    nodes, edges, labels = (
        torch.stack([torch.as_tensor(graph[place]) for graph in graphs]) for place in range(3)
    )
    return nn.functional.cross_entropy(model(nodes, edges), labels)
