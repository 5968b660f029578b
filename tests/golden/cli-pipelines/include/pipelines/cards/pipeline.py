from components.scale import scale
from kfp import dsl


@dsl.pipeline(name="cards")
def train(value: float = 1.0):
    scale(value=value)
