"""The remote job of the chaos tests for KFP: the same as job.sh."""

from kfp import dsl


@dsl.component(packages_to_install=[], install_kfp_package=False)
def job(folder: str, run_id: str):
    import pathlib
    import signal
    import sys
    import time

    place = pathlib.Path(folder)

    def say(word: str) -> None:
        with (place / "events").open("a") as events:
            events.write(f"{word} {run_id} {time.time()}\n")

    def stopped(*_: object) -> None:
        say("stopped")
        sys.exit(143)

    signal.signal(signal.SIGTERM, stopped)
    say("start")
    for count in range(1, 401):
        print(f"line {count}", flush=True)
        time.sleep(1)
        if (place / "fail").exists() and count >= 3:
            (place / "fail").unlink()
            say("failed")
            sys.exit(1)
        if (place / "finish").exists() and count >= 3:
            say("end")
            return
    say("failed")
    sys.exit(1)


@dsl.pipeline(name="chaos-job")
def pipeline(folder: str):
    job(folder=folder, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
