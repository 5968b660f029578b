"""Pipelines that use include/pipelines/_lib. A file of its own: the SDK reads a component's source from it."""

from kfp import dsl

from include.pipelines._lib import HANDOVER, component

FIRST = 'TEXT = """\'quoted\' {"x": 1}\\\\n"""\n\n\ndef double(x):\n    return 2 * x\n'
SECOND = (
    "import first\n\n\ndef fail():\n"
    '    raise RuntimeError("the ice is thin")\n\n\ndef show(x):\n    return f"{first.double(x)} {first.TEXT}"\n'
)


@component(modules={"first": FIRST, "second": SECOND, **HANDOVER})
def use(fails: bool) -> str:
    """Imports at the top of the body, as any code does."""
    import handover
    import second

    assert handover.metrics
    if fails:
        second.fail()
    return str(second.show(6))


def plain(x: int) -> int:
    """Needs nothing."""
    return x


@dsl.pipeline(name="carried")
def carried(fails: bool = False):
    """One step."""
    use(fails=fails)
