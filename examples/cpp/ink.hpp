// What is ink in a picture, and what its background: steps 4 and 5 of docs/pictures.md, as rnnspn predict does them.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "picture.hpp"

inline std::vector<uint8_t> border_of(const Picture &picture) {
    const auto &levels = picture.levels;
    const size_t width = size_t(picture.width);
    std::vector<uint8_t> border(levels.begin(), levels.begin() + picture.width);
    border.insert(border.end(), levels.end() - picture.width, levels.end());
    for (size_t at = 0; at < levels.size(); at += width) border.insert(border.end(), {levels[at], levels[at + width - 1]});
    std::sort(border.begin(), border.end());
    return border;
}

// Of each place, the sum of the square that reaches so far to every side; beyond the picture are the nearest values.
inline std::vector<int64_t> sums(const std::vector<int64_t> &values, int64_t height, int64_t width, int64_t reach) {
    const auto along = [reach](const std::vector<int64_t> &ones, int64_t count, int64_t step) {
        std::vector<int64_t> all(ones.size());
        for (int64_t at = 0; at < int64_t(ones.size()); at++)
            for (int64_t place = at / step % count, i = place - reach; i <= place + reach; i++)
                all[size_t(at)] += ones[size_t(at + (std::clamp<int64_t>(i, 0, count - 1) - place) * step)];
        return all;
    };
    return along(along(values, width, 1), height, width);
}

struct Sides {
    int64_t most, least;
    bool on_light;
};

// How far what is not too rare to be ink is on either side.
inline Sides sides_of(std::vector<int64_t> differences) {
    std::sort(differences.begin(), differences.end());
    const size_t count = differences.size(), rare = count / 200;  // highlights
    const int64_t below = std::max<int64_t>(0, -differences[rare]);
    const int64_t above = std::max<int64_t>(0, differences[count - 1 - rare]);
    return {std::max(below, above), std::min(below, above), below > above};
}

// Ink is what stands out more to one side: from the border's level, or from its surroundings.
inline bool is_on_light(const Picture &picture) {
    const auto border = border_of(picture);
    const int paper = border[border.size() / 2 - 1];
    const int64_t reach = std::min(picture.height, picture.width) / 8, side = 2 * reach + 1;
    const std::vector<int64_t> levels(picture.levels.begin(), picture.levels.end());
    const auto blurred = sums(levels, picture.height, picture.width, 1);  // specks fade, strokes stay
    auto from_paper = blurred, from_surroundings = sums(blurred, picture.height, picture.width, reach);
    for (size_t at = 0; at < blurred.size(); at++) {
        from_paper[at] -= 9 * paper;
        from_surroundings[at] = blurred[at] * side * side - from_surroundings[at];
    }
    const Sides plain = sides_of(from_paper), local = sides_of(from_surroundings);
    const Sides &clearer = local.most * plain.least > plain.most * local.least ? local : plain;
    return 4 * clearer.most > 5 * clearer.least ? clearer.on_light : paper > 127;
}

// Turn grey levels into 0 for the background and up to 255 for ink.
inline void prepare(Picture &picture) {
    if (is_on_light(picture))
        for (auto &level : picture.levels) level = uint8_t(255 - level);
    const auto border = border_of(picture);
    const int middle = border[border.size() / 2 - 1], quarter = border[border.size() * 3 / 4];
    const int paper = quarter - middle > 64 ? middle : quarter;
    if (paper == 0) return;
    const double range = std::max(*std::max_element(picture.levels.begin(), picture.levels.end()) - paper, 85);
    for (auto &level : picture.levels) level = uint8_t(std::clamp((level - paper) * 255 / range, 0.0, 255.0) + 0.5);
}
