import numpy as np

from custom_apps.seg.largest_component import ComponentRules, choose_component_rules, keep_largest_component


def scene(*boxes):
    labels = np.zeros((6, 20, 20), np.int16)
    for label, row, column, edge in boxes:
        labels[1:4, row : row + edge, column : column + edge] = label
    return labels


def test_of_one_label_or_of_several_together():
    labels = scene((1, 1, 1, 5), (2, 6, 1, 3), (2, 14, 14, 4), (1, 1, 14, 2))
    one = keep_largest_component(labels, [1])
    assert np.array_equal(one, scene((1, 1, 1, 5), (2, 6, 1, 3), (2, 14, 14, 4)))
    together = keep_largest_component(labels, [1, 2])
    assert np.array_equal(together, scene((1, 1, 1, 5), (2, 6, 1, 3)))
    assert np.array_equal(keep_largest_component(labels, [3]), labels)


def test_rules_are_applied_in_order():
    labels = scene((1, 1, 1, 5), (1, 1, 14, 2), (2, 14, 14, 4), (2, 10, 1, 2))
    assert np.array_equal(ComponentRules([[1], [2]])(labels), scene((1, 1, 1, 5), (2, 14, 14, 4)))
    assert np.array_equal(ComponentRules()(labels), labels)


def test_a_rule_is_chosen_only_where_it_helps():
    """Label 1 is one organ with false islands, label 2 comes in pairs: removing all but the largest would hurt it."""
    reference = scene((1, 1, 1, 5), (2, 14, 1, 4), (2, 14, 14, 3))
    prediction = scene((1, 1, 1, 5), (2, 14, 1, 4), (2, 14, 14, 3), (1, 1, 14, 2))
    rules = choose_component_rules([(prediction, reference)] * 2, [1, 2])
    assert rules.largest == [[1]]
    assert np.array_equal(rules(prediction), reference)


def test_a_rule_that_makes_one_class_worse_is_refused_though_the_mean_rises():
    reference = scene((1, 1, 1, 5), (2, 6, 1, 3), (2, 14, 14, 1))
    prediction = scene((1, 1, 1, 5), (2, 6, 1, 3), (2, 14, 14, 1), (1, 14, 4, 5), (1, 1, 12, 5))
    assert [1, 2] not in choose_component_rules([(prediction, reference)], [1, 2]).largest


def test_nothing_to_learn_from():
    empty = np.zeros((2, 3, 3), np.int16)
    assert choose_component_rules([(empty, empty)], [1, 2]).largest == []
    assert choose_component_rules([], [1]).largest == []
