"""What each key of a manifest means, with examples: what an editor shows at a key, and what `mlfleet explain` prints.

It stands beside the models and not in them, so that the DAG processor does not load it. A field of a model that has a
`description` of its own needs no entry; a test asks that every field has one or the other.
"""

from __future__ import annotations

from mlfleet.manifest.training_documentation import TRAINING_WORDS
from mlfleet.manifest.words import Words

# By the name of the model and the key as manifests write it.
DOCUMENTATION: dict[str, dict[str, Words]] = {
    **TRAINING_WORDS,
    "Project": {
        "apiVersion": Words("Version of the rules; within one they are only relaxed.", ("mlfleet/v1",)),
        "kind": Words("Always `Project`.", ("Project",)),
        "name": Words(
            "Name of the project: its DAG id, and its folder below include/pipelines. 1 to 63 small letters, digits "
            "and inner hyphens; no two projects have the same.",
            ("price-suggestion",),
        ),
        "title": Words("Name for people, shown instead of the DAG id.", ("Price suggestion",)),
        "description": Words(
            "What the project is for; the beginning of the DAG's documentation.",
            ("Suggests a price for a diamond from its features.",),
        ),
        "owners": Words("Who answers for the project; the first one owns its tasks.", ([{"github": "@acme/pricing"}],)),
        "links": Words(
            "Web pages about the project, shown in the DAG's documentation.",
            ([{"title": "Runbook", "url": "https://example.com/runbook"}],),
        ),
        "tags": Words("Tags of the DAG, beside `mlfleet` and the owners.", (["regression", "daily"],)),
        "labels": Words(
            "Names and values for sorting: tags `name:value` of the DAG, and labels `mlfleet.label.NAME` of the image.",
            ({"team": "pricing", "cost-centre": "4711"},),
        ),
        "annotations": Words("Free form for other tools; mlfleet does not read it.", ({"cost-centre": "4711"},)),
        "schedule": Words("When a run starts; without it only by hand.", ({"cron": "0 3 * * *"},)),
        "experiments": Words(
            "The models of the project; each is trained in a task group of its own.", ([{"name": "Default"}],)
        ),
        "data": Words(
            "What must be there before anything is trained: objects, partitions, events of assets.",
            ([{"name": "features", "gcs": {"bucket": "acme-features", "object": "${data.end}/_SUCCESS"}}],),
        ),
        "training": Words(
            "How each experiment is trained: with Polyaxon, then with Kubeflow Pipelines, or either.",
            ({"kfp": {"pipeline": "pipeline.py:train"}},),
        ),
        "evaluation": Words(
            "The bound that every experiment must keep, or nothing is released.",
            ({"metric": "mae", "direction": "min", "max": 800},),
        ),
        "image": Words("The container image that is built from the trained models.", ({"repository": "ml/prices"},)),
        "deploy": Words(
            "Who brings the released image into production.",
            ({"spinnaker": {"application": "prices", "pipeline": "deploy-model"}},),
        ),
        "retries": Words("How often a failed task is tried again.", ({"count": 2, "delay": "5m"},)),
        "pools": Words(
            "Airflow pools that tasks take their slots from. A pool must exist, or its tasks never start.",
            ({"default": "ml", "build_image": "builds"},),
        ),
        "steps": Words(
            "Tasks of the team's own, by their place in the DAG.",
            ({"before_training": [{"name": "check-rows", "callable": "steps.py:check_rows"}]},),
        ),
        "notify": Words("Who is told about the runs.", ({"webhook": "pricing_room", "late_after": "6h"},)),
        "targets": Words(
            "What is different in an environment (a file of include/environments): any keys of a manifest, merged by "
            "key, `experiments` by name and `links` by title; other lists are replaced, `null` takes a section away.",
            ({"dev": {"schedule": None}},),
        ),
    },
    "Owner": {
        "github": Words(
            "A GitHub user, or a team with its organisation. In quotes, because of the @.",
            ("@acme/pricing", "@octocat"),
        ),
        "name": Words("Name for people.", ("Pricing team",)),
        "oncall": Words("The page that says who is on call.", ("https://example.com/oncall/pricing",)),
        "email": Words("An address that reads mail about the project.", ("pricing@example.com",)),
        "slack": Words("A channel or person in Slack.", ("#pricing",)),
    },
    "Link": {
        "title": Words("What the link says.", ("Runbook",)),
        "url": Words("Its address, with https://.", ("https://example.com/runbook",)),
    },
    "Schedule": {
        "cron": Words(
            "Five fields: minute, hour, day of month, month, day of week; or a preset; or a list of these. A run's "
            "data is what came between two of these times.",
            ("0 3 * * *", "@daily", ["0 6 * * 1-5", "0 12 * * 6"]),
        ),
        "timetable": Words(
            "A timetable for what crons cannot say.",
            ({"class": "airflow.sdk.CronTriggerTimetable", "arguments": {"expression": "@daily", "timezone": "UTC"}},),
        ),
        "asset": Words(
            "Name of another project, or a list of several: their releases start a run of this one.",
            ("price-suggestion", ["price-suggestion", "flight-delay"]),
        ),
        "wait_for": Words("Of several projects: a run after all have released again, or after any has.", ("any",)),
        "max_active_runs": Words("How many runs may go on at once; more than one only without `deploy`.", (1,)),
        "paused": Words(
            "Takes `cron`, `timetable` and `asset` away as long as it is true; runs by hand work.", (True,)
        ),
        "start_date": Words("The first day that the schedule counts from, at midnight in `timezone`.", ("2026-11-01",)),
        "timezone": Words("Name from the IANA time zone database, in which `cron` is read.", ("Asia/Tokyo", "UTC")),
        "catchup": Words("Whether runs since `start_date` that did not happen are made up for.", (False,)),
        "window": Words("How far back the data of a run by hand or by an asset reaches.", ("1d", "7d")),
    },
    "Timetable": {
        "class": Words(
            "The import path of a timetable, of Airflow's own or of one that an Airflow plugin registers.",
            ("airflow.sdk.DeltaDataIntervalTimetable",),
        ),
        "arguments": Words("What it is made with, as YAML gives it.", ({"expression": "@daily", "timezone": "UTC"},)),
    },
    "Experiment": {
        "name": Words(
            "Name of the experiment; in small letters and with hyphens it is the id of its task group.",
            ("Trading Cards",),
        ),
        "training": Words(
            "What is different in its training.", ({"polyaxon": {"params": {"rounds": 50}, "timeout": "8h"}},)
        ),
        "schedule": Words(
            "When it is trained, other than the project: it gets a DAG of its own, NAME.EXPERIMENT. What it leaves out "
            "is as in the project's schedule. It has no part in the project's image.",
            ({"cron": "@weekly"},),
        ),
        "enabled": Words("Whether it is trained and packaged; for a target that does with fewer.", (False,)),
        "params": Words("Values of this experiment, read as `${experiment.params.NAME}`.", ({"segment": "Premium"},)),
    },
    "Evaluation": {
        "metric": Words("A metric that the last training step of every experiment writes.", ("mae",)),
        "direction": Words("Which way is better.", ("min",)),
        "min": Words("The metric must be at least this.", (0.9,)),
        "max": Words("The metric must be at most this.", (800,)),
        "min_improvement": Words(
            "By which share of the live model's metric the new one must be better; 0 means no worse. The live metric "
            "is read from the labels of the image that the pipeline deployed last: measured on the data of its time.",
            (0.02,),
        ),
    },
    "Image": {
        "per": Words(
            "Whose image it is: one of the project, or one of each experiment, built, released and deployed by itself.",
            ("project", "experiment"),
        ),
        "backend": Words(
            "What builds it: buildah, in the slot of the worker. Cloud Build is not wired to manifests yet.",
            ("buildah",),
        ),
        "base": Words(
            "Value of the build argument BASE, which the Dockerfile uses as `FROM ${BASE}`. Takes references.",
            ("${env.base_image}", "python:3.12-slim"),
        ),
        "platforms": Words(
            "What the image runs on; without it, what the worker does. buildah builds for one.", (["linux/amd64"],)
        ),
        "dockerfile": Words("Relative to include/pipelines/<project>.", ("Dockerfile",)),
        "context": Words("Folder whose files the build sees, relative to include/pipelines/<project>.", (".",)),
        "repository": Words(
            "Path in the registry of the environment, without its host; without it the project's name. The images of "
            "experiments lie below it.",
            ("ml/price-suggestion",),
        ),
        "args": Words("Build arguments.", ({"BASE": "${env.base_image}"},)),
        "models": Words("Where the trained models go in the build context.", ({"dest": "models"},)),
    },
    "ImageModels": {
        "dest": Words("Folder in the build context; the models lie in DEST/<experiment>/.", ("models",)),
    },
    "Deploy": {
        "spinnaker": Words(
            "The pipeline whose docker trigger the release's tag matches.",
            ({"application": "prices", "pipeline": "deploy-model"},),
        ),
        "canary": Words(
            "Whether a release is compared with the live model first, in a pipeline that `mlfleet apply` makes.",
            (False,),
        ),
        "judgment": Words(
            "Whether a person must agree to each deployment, in a pipeline that `mlfleet apply` makes.", (False,)
        ),
        "backfill": Words(
            "What a backfill may release: never anything, or only data that reaches further than all that was ever "
            "released, for days that the schedule missed.",
            ("newer",),
        ),
        "timeout": Words("How long the deployment may take before the task fails; it is not stopped.", ("1h",)),
        "on_kill": Words(
            "What happens to the execution when somebody ends the Airflow task: it is left running, or cancelled.",
            ("leave",),
        ),
        "on_not_started": Words(
            "What to do when no execution came of the release: fail, or start the pipeline by hand "
            "with the same image.",
            ("fail",),
        ),
    },
    "SpinnakerTarget": {
        "application": Words("Name of the Spinnaker application.", ("prices",)),
        "pipeline": Words(
            "Name of its pipeline. With an image per experiment it takes `${experiment.*}`, another one for each.",
            ("deploy-model", "deploy-${experiment.slug}"),
        ),
        "tag_pattern": Words(
            "The tag pattern of the pipeline's docker trigger. It must match every release and no build; a release "
            "looks whether Spinnaker has the same.",
            ("^release-.*$",),
        ),
    },
    "Steps": {
        "before_training": Words(
            "Before any experiment is trained.", ([{"name": "check-rows", "callable": "steps.py:check_rows"}],)
        ),
        "after_training": Words(
            "After all experiments, before they are evaluated.",
            ([{"name": "report", "callable": "steps.py:report", "arguments": {"top": 10}}],),
        ),
        "after_deploy": Words(
            "After a deployment that succeeded.",
            (
                [
                    {
                        "name": "warm-up",
                        "operator": "airflow.providers.standard.operators.bash.BashOperator",
                        "arguments": {"bash_command": "curl -fsS https://prices.example.com/health"},
                    }
                ],
            ),
        ),
    },
    "Step": {
        "name": Words("The task's id; no other task of the project has it.", ("check-rows",)),
        "callable": Words(
            "File and function, relative to include/pipelines/<project>. It is called with `task_id` and the arguments "
            "where the DAG is built, and returns the task.",
            ("steps.py:check_rows",),
        ),
        "operator": Words(
            "Import path of an operator class, which gets `task_id` and the arguments.",
            ("airflow.providers.standard.operators.bash.BashOperator",),
        ),
        "arguments": Words("Values for the function or the operator, without references.", ({"minimum": 1000},)),
    },
    "Notify": {
        "webhook": Words(
            "An Airflow connection whose password is the address of a chat room (Slack, Google Chat, Mattermost).",
            ("pricing_room",),
        ),
        "events": Words("What ends of a run are told.", (["failure"], ["failure", "success"])),
        "late_after": Words("Tell when a run is not done this long after it was queued.", ("6h",)),
    },
    "DataRequirement": {
        "name": Words("Id of its task in the group `data`.", ("features",)),
        "gcs": Words(
            "An object of Google Cloud Storage. Values take references.",
            ({"bucket": "acme-features", "object": "${data.end}/_SUCCESS"},),
        ),
        "bigquery": Words(
            "A partition of a BigQuery table. Values take references.",
            ({"project": "acme", "dataset": "sales", "table": "orders"},),
        ),
        "asset": Words(
            "An event of an Airflow asset. Values take references.", ({"uri": "x-mlfleet://price-suggestion/released"},)
        ),
        "timeout": Words("How long it is waited for before the task fails.", ("12h",)),
        "every": Words("How often it is looked for.", ("1m",)),
    },
    "GCSObject": {
        "bucket": Words("Name of the bucket.", ("acme-features",)),
        "object": Words("Name of the object.", ("${data.end}/_SUCCESS",)),
        "glob": Words("Whether `object` is a pattern, of which any match is enough.", (True,)),
    },
    "BigQueryPartition": {
        "project": Words("Google Cloud project of the table.", ("acme",)),
        "dataset": Words("Dataset of the table.", ("sales",)),
        "table": Words("Name of the table.", ("orders",)),
        "partition": Words(
            "Id of the partition; a date is written as BigQuery does (20261110), a time by its hour in UTC.",
            ("${data.start}", "20261110"),
        ),
    },
    "AssetUpdate": {
        "name": Words("Name of the asset, or else `uri`.", ("orders",)),
        "uri": Words("Uri of the asset.", ("x-mlfleet://price-suggestion/released",)),
        "since": Words("An event counts at or after the start, or the end, of the run's data.", ("end",)),
    },
    "Pools": {
        "data": Words("For the tasks that wait for data.", ("sensors",)),
        "default": Words("For all tasks that are not named.", ("ml",)),
        "polyaxon": Words("For the Polyaxon task of each experiment.", ("gpu",)),
        "kfp": Words("For the KFP task of each experiment.", ("gpu",)),
        "evaluate": Words("For the task that compares metrics with the bound.", ("ml",)),
        "build_image": Words("For the build of the image.", ("builds",)),
        "verify_image": Words("For the task that waits for the image in the registry.", ("ml",)),
        "release": Words("For the task that decides.", ("releases",)),
        "deploy": Words("For the task that follows the deployment.", ("releases",)),
    },
    "Retries": {
        "count": Words("How often; 0 for never.", (1,)),
        "delay": Words("How long after the failure.", ("1m",)),
    },
}
DOCUMENTATION["ScheduleOverride"] = DOCUMENTATION["Schedule"]
