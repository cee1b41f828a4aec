// A picture's grey levels, and how they come out of a binary PGM file.

#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    int64_t height, width;
    std::vector<uint8_t> levels;  // row by row
};

inline Picture load(const std::string &path, int64_t height, int64_t width) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    int64_t across = 0, down = 0, white = 0;
    file >> kind >> across >> down >> white;
    if (!file || kind != "P5" || white != 255) throw std::runtime_error(path + " is no plain binary PGM file of 8 bits");
    if (across != width || down != height) throw std::runtime_error(path + " is not of the model's size");
    Picture picture{height, width, std::vector<uint8_t>(size_t(height * width))};
    file.ignore(1).read(reinterpret_cast<char *>(picture.levels.data()), height * width);
    if (!file) throw std::runtime_error(path + " is cut off");
    return picture;
}
