from kfp import dsl


@dsl.pipeline(name="prices")
def train(until: str, depth: int = 3): ...
