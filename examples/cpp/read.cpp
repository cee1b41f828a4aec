// Read digit sequences with an exported model: grey levels in, digits out, nothing else to prepare.
//
//   c++ -std=c++17 -I INCLUDE read.cpp LIBRARY -o read   INCLUDE: folder of onnxruntime_cxx_api.h, LIBRARY: libonnxruntime.so
//   ./read MODEL.onnx PICTURE.pgm...                     a line a picture: digits, probabilities, theta, tabs between
//
// Pictures are binary PGM files of the model's own size, light on dark.

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
    int64_t height, width;
    std::vector<uint8_t> levels;  // row by row, 0 for the background and 255 for ink
};

static Picture load(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    int64_t width = 0, height = 0, white = 0;
    file >> kind >> width >> height >> white;
    if (!file || kind != "P5" || white != 255 || width < 1 || height < 1 || width > 4096 || height > 4096)
        throw std::runtime_error(path + " is no binary PGM file of 8 bits");
    Picture picture{height, width, std::vector<uint8_t>(size_t(height * width))};
    file.ignore(1).read(reinterpret_cast<char *>(picture.levels.data()), height * width);
    if (!file) throw std::runtime_error(path + " is cut off");
    return picture;
}

static void read(Ort::Session &session, Picture picture) {
    const char *inputs[] = {"images"}, *outputs[] = {"digits", "probabilities", "theta"};
    const int64_t shape[] = {1, picture.height, picture.width};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto images =
        Ort::Value::CreateTensor<uint8_t>(memory, picture.levels.data(), picture.levels.size(), shape, 3);
    // the family conv has no theta
    const auto answers = session.Run(Ort::RunOptions(), inputs, &images, 1, outputs, session.GetOutputCount());
    for (const Ort::Value &answer : answers) {
        const size_t count = answer.GetTensorTypeAndShapeInfo().GetElementCount();
        for (size_t i = 0; i < count; i++)
            if (&answer == &answers[0]) std::printf("%d", int(answer.GetTensorData<int64_t>()[i]));
            else std::printf("%s%.7f", i ? " " : "\t", answer.GetTensorData<float>()[i]);
    }
    std::puts("");
}

int main(int count, char **arguments) try {
    if (count < 3) return std::fputs("usage: read MODEL.onnx PICTURE.pgm...\n", stderr), 2;
    if (!OrtGetApiBase()->GetApi(ORT_API_VERSION)) throw std::runtime_error("the library is older than the headers");
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // ONNX Runtime reports to its maker otherwise
    Ort::Env environment(ORT_LOGGING_LEVEL_FATAL);
    Ort::Session session(environment, arguments[1], Ort::SessionOptions());
    for (int picture = 2; picture < count; picture++) read(session, load(arguments[picture]));
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
