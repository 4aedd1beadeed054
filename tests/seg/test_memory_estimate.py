from custom_apps.seg.memory_estimate import count_feature_map_elements


def test_counts_by_hand():
    strides, features = [(1, 1), (2, 2)], [4, 8]
    full, half = 16 * 12, 8 * 6
    plain = count_feature_map_elements((16, 12), strides, features, [2, 2], 2, 3, residual=False)
    assert plain == 2 * 4 * full + 2 * 8 * half + (1 + 2) * 4 * full + 3 * full
    residual = count_feature_map_elements((16, 12), strides, features, [1, 3], 1, 3, residual=True)
    stem, blocks, shortcut = 4 * full, 2 * 1 * 4 * full + 2 * 3 * 8 * half, 8 * half
    assert residual == stem + blocks + shortcut + (1 + 1) * 4 * full + 3 * full


def test_a_shortcut_that_changes_nothing_costs_nothing():
    common = {"convs_encoder": [1, 1], "convs_decoder": 1, "num_labels": 2, "residual": True}
    same = count_feature_map_elements((8, 8), [(1, 1), (1, 1)], [4, 4], **common)
    wider = count_feature_map_elements((8, 8), [(1, 1), (1, 1)], [4, 5], **common)
    assert wider - same == 2 * 64 + 5 * 64
