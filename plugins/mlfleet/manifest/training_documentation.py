"""The documentation of ``training`` (`documentation` says what it is for)."""

from __future__ import annotations

from mlfleet.manifest.words import Words

_TIMEOUT = "How long it may take before it is stopped and the task fails."
_ON_FAILED = (
    "What a retry does with a run that failed: `resubmit` starts a new one, `resume` goes on from where it got to, "
    "`fail` does nothing."
)

_PLACEMENT = {
    "image": Words(
        "Image of the run's container, in place of the polyaxonfile's. Takes references.",
        ("registry.example.com/ml/train:1.4",),
    ),
    "resources": Words("What each pod of the run asks for and gets.", ({"cpu": 4, "memory": "16Gi", "gpus": 1},)),
    "node_pool": Words(
        "The nodes that it runs on: a name of `nodes.pools` of the environment, or else a node pool of GKE.",
        ("gpu-l4",),
    ),
    "preemptible": Words(
        "Whether it runs on nodes that may be taken away (GKE: spot); what a preemption ends is resumed.", (True,)
    ),
    "queue": Words("Polyaxon's queue, with or without its agent.", ("gpu", "agent/gpu")),
    "presets": Words("Polyaxon's presets that the run takes over, beside those of the polyaxonfile.", (["gpu-small"],)),
    "connections": Words(
        "Polyaxon's connections (buckets, secrets) that the run gets, beside those of the polyaxonfile.",
        (["training-data"],),
    ),
    "early_stopping": Words(
        "When the search of `matrix` ends before all of its runs were made.", ({"value": 300, "failed_percent": 50},)
    ),
}

# By the name of the model and the key as manifests write it.
TRAINING_WORDS: dict[str, dict[str, Words]] = {
    "TrainingOverride": {
        "polyaxon": Words("What is different in its Polyaxon run.", ({"params": {"rounds": 50}},)),
        "kfp": Words("What is different in its KFP run.", ({"timeout": "8h"},)),
    },
    "PolyaxonOverride": {
        **_PLACEMENT,
        "params": Words("Other values for params, or further ones.", ({"rounds": 50},)),
        "matrix": Words(
            "Another search, in place of the project's; only where that has one.",
            ({"kind": "grid", "params": {"depth": {"kind": "choice", "value": [8]}}},),
        ),
        "timeout": Words(_TIMEOUT, ("8h",)),
        "on_failed": Words(_ON_FAILED, ("resume",)),
    },
    "KFPOverride": {
        "version": Words("Another uploaded version.", ({"branch": "experiment-7"},)),
        "service_account": Words("Another service account of Kubernetes.", ("trainer-premium",)),
        "params": Words("Other values for params, or further ones.", ({"top": 10},)),
        "caching": Words("Whether steps with equal inputs come from older runs.", (False,)),
        "timeout": Words(_TIMEOUT, ("8h",)),
        "on_failed": Words(_ON_FAILED, ("resume",)),
    },
    "Training": {
        "polyaxon": Words("A Polyaxon run or tuning for each experiment.", ({"polyaxonfile": "polyaxonfile.yaml"},)),
        "kfp": Words(
            "A run of a Kubeflow pipeline for each experiment, after Polyaxon's.", ({"pipeline": "pipeline.py:train"},)
        ),
    },
    "PolyaxonTraining": {
        **_PLACEMENT,
        "component": Words(
            "In place of the polyaxonfile: a component of Polyaxon's hub, which the community edition does not have.",
            ("acme/train:1.2",),
        ),
        "code": Words("A git repository that Polyaxon clones into the run.", ({"connection": "fleet-repository"},)),
        "build": Words(
            "Polyaxon builds the image of the run from `code`, with a component of its hub (kaniko).",
            ({"connection": "registry", "destination": "ml/train:${git.commit}"},),
        ),
        "volumes": Words(
            "Folders of the container that come from the cluster.",
            ([{"name": "cache", "path": "/cache", "claim": "training-cache"}],),
        ),
        "polyaxonfile": Words(
            "A component or an operation, relative to include/pipelines/<project>.", ("polyaxonfile.yaml",)
        ),
        "files": Words(
            "Files of the project that travel with the run and lie in its working folder.",
            (["train.py", "features.py"],),
        ),
        "params": Words("Values of the polyaxonfile's inputs.", ({"segment": "${experiment.params.segment}"},)),
        "matrix": Words(
            "Polyaxon's own section; makes a tuning of the run.",
            ({"kind": "grid", "params": {"depth": {"kind": "choice", "value": [2, 4]}}},),
        ),
        "best_by": Words(
            "Which run of the matrix is the best; read as `${polyaxon.best.inputs.NAME}`.",
            ({"metric": "mae", "direction": "min"},),
        ),
        "timeout": Words(_TIMEOUT, ("4h",)),
        "on_failed": Words(_ON_FAILED, ("resubmit",)),
    },
    "BestBy": {
        "metric": Words("An output of the runs.", ("mae",)),
        "direction": Words("Which way is better.", ("min",)),
    },
    "Matrix": {
        "kind": Words("How values are chosen.", ("grid", "random")),
        "params": Words(
            "The values of each input that is searched.", ({"depth": {"kind": "choice", "value": [2, 4]}},)
        ),
        "values": Words("For a `mapping`: the inputs of each run.", ([{"depth": 2}, {"depth": 4}],)),
        "concurrency": Words("How many runs at the same time.", (2,)),
        "numRuns": Words("How many runs a random, bayes or hyperopt search makes.", (20,)),
        "numInitialRuns": Words("Random runs before a bayes search chooses.", (5,)),
        "maxIterations": Words("Upper bound of iterations.", (10,)),
        "seed": Words("Seed of the random choice.", (7,)),
        "eta": Words("hyperband: the share of runs that goes on is one over this.", (3,)),
        "algorithm": Words("hyperopt: its algorithm.", ("tpe",)),
        "resource": Words("hyperband: the input that says what a run may use.", ({"name": "epochs", "type": "int"},)),
        "metric": Words("What the search optimizes.", ({"name": "mae", "optimization": "minimize"},)),
        "utilityFunction": Words("bayes: how the next run is chosen.", ({"acquisitionFunction": "ucb"},)),
        "resume": Words("hyperband: whether runs go on from their checkpoints.", (False,)),
        "tuner": Words("The component that runs the search.", ({"hubRef": "acme/tuner"},)),
        "earlyStopping": Words(
            "When the search ends before all runs were made.",
            ([{"kind": "metric_early_stopping", "metric": "mae", "value": 100, "optimization": "minimize"}],),
        ),
    },
    "KFPTraining": {
        "pipeline": Words(
            "File and function of the pipeline, relative to include/pipelines/<project>.", ("pipeline.py:train",)
        ),
        "version": Words(
            "An uploaded version of the pipeline to run, found when the task runs and kept for its retries and reruns; "
            "without it the file is compiled.",
            ({"branch": "main"}, {"commit": "${git.commit}"}, {"name": "main_0123abc"}),
        ),
        "service_account": Words("Kubernetes' service account that the steps run as. Takes references.", ("trainer",)),
        "pipeline_root": Words(
            "Where artifacts go, in place of `pipeline_root` of the environment. Takes references.",
            ("gs://acme-models/${project.name}",),
        ),
        "params": Words("Values of the pipeline's parameters.", ({"until": "${data.end}"},)),
        "caching": Words(
            "Whether steps with equal inputs come from older runs. The cache knows params, and not the "
            "data that they point to.",
            (False,),
        ),
        "timeout": Words(_TIMEOUT, ("4h",)),
        "on_failed": Words(_ON_FAILED, ("resume",)),
    },
    "EarlyStopping": {
        "value": Words("A run whose metric is at least that good is enough.", (300,)),
        "failed_percent": Words(
            "The search ends when this share of its runs has failed; what succeeded until then counts.", (50,)
        ),
        "metric": Words("The output of the runs that is compared; without it that of `best_by`.", ("mae",)),
        "direction": Words("Which way is better; without it that of `best_by`.", ("min",)),
    },
    "Resources": {
        "cpu": Words("Cores, or thousandths of one.", (2, "500m")),
        "memory": Words("With its unit.", ("16Gi",)),
        "gpus": Words("How many GPUs; `nodes.gpu` of the environment says of which kind.", (1,)),
    },
    "Volume": {
        "name": Words("Its name; one of the polyaxonfile's with that name is replaced.", ("cache",)),
        "path": Words("Where it lies in the container.", ("/cache",)),
        "claim": Words("A PersistentVolumeClaim of the cluster.", ("training-cache",)),
        "secret": Words("A Secret of the cluster.", ("kaggle-token",)),
        "config_map": Words("A ConfigMap of the cluster.", ("train-config",)),
        "memory": Words("A folder in memory of that size, like /dev/shm.", ("2Gi",)),
        "read_only": Words("Whether the run can't write to it.", (True,)),
    },
    "Code": {
        "connection": Words(
            "Polyaxon's connection to the git repository; it is cloned to /plx-context/artifacts/CONNECTION.",
            ("fleet-repository",),
        ),
        "url": Words(
            "Address of the repository, in place of the connection's; alone for a public one, which is cloned to "
            "/plx-context/artifacts/REPOSITORY.",
            ("https://github.com/acme/fleet",),
        ),
        "revision": Words(
            "A commit, tag or branch. Without it the repository is that of this manifest, at the commit of the DAG: "
            "a retry or a rerun trains the same one. Takes references.",
            ("v1.4", "main"),
        ),
    },
    "Build": {
        "connection": Words("Polyaxon's connection to the registry that the image is pushed to.", ("registry",)),
        "destination": Words(
            "Image and tag; without it Polyaxon names it after project and build. Takes references.",
            ("ml/train:${git.commit}",),
        ),
        "context": Words(
            "Folder with the Dockerfile, from the top of the cloned repository; without it that of the project.",
            ("include/pipelines/price-suggestion/training",),
        ),
        "component": Words("The component of Polyaxon's hub that builds.", ("kaniko", "acme/kaniko:1.2")),
        "params": Words("Other inputs of that component. Values take references.", ({"cache_ttl": "24h"},)),
    },
    "KFPVersion": {
        "name": Words("The version of exactly this name. Takes references.", ("main_0123abc",)),
        "branch": Words("The newest version of this branch. Takes references.", ("main",)),
        "commit": Words("The version of this commit.", ("${git.commit}", "0123abc")),
        "pipeline": Words(
            "Name of the uploaded pipeline in KFP; without it that of the project.",
            ("price-suggestion",),
        ),
    },
}
