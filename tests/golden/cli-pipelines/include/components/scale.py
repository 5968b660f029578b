from kfp import dsl


@dsl.component(base_image="python:3.11")
def scale(value: float) -> float:
    return value * 2
