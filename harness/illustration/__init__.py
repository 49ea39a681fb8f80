"""Figures of finished cells: which there are, what each needs, and drawing them without evaluating anything again.

``book`` has the finished cells of a plan with their outcomes. ``stored`` draws what the store alone tells, ``modelled``
what needs the weights: those analyses are kept under content keys of their own.
"""
