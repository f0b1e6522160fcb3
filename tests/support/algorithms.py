"""The consensus algorithms that are shipped, and the schedules that each must hold."""

from __future__ import annotations

from pathlib import Path

from fluvial.consensus.lab.run import Algorithm
from fluvial_consensus_bft import plugin as bft
from fluvial_consensus_dag import plugin as dag

SIMPLEX = Algorithm(name="simplex", make=bft.make, options=bft.SimplexOptions(), traits=bft.TRAITS)
DAG = Algorithm(name="dag", make=dag.make, options=dag.DagOptions(), traits=dag.TRAITS)
SCHEDULES = sorted((Path(__file__).parents[1] / "conformance/consensus").glob("*.json"))
