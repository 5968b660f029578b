from kfp import dsl


@dsl.component(base_image="python:3.11")
def step(text: str) -> str:
    return text


@dsl.pipeline(name="prices")
def train(text: str = "x"):
    step(text=text)
