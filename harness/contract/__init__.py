"""The contract of components as a library.

``rules(kind, name)`` are claims for ``pytest.mark.parametrize``, each with ``assert_holds()``; ``assert_contract(kind,
name)`` is all of them in one line.
"""

from harness.contract.checking import assert_contract, check, rules
from harness.contract.rule import RULES, Candidate, Claim, Result, Rule, State

__all__ = ["RULES", "Candidate", "Claim", "Result", "Rule", "State", "assert_contract", "check", "rules"]
