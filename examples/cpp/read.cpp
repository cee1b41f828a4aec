// Read digit sequences with an exported model.
//
//   c++ -O2 -std=c++17 -I INCLUDE read.cpp LIBRARY -o read
//   ./read MODEL.onnx PICTURE.pgm...          a line a picture: reading, probabilities, theta, tabs between
//
// INCLUDE is the folder of onnxruntime_cxx_api.h, LIBRARY is libonnxruntime.so.
//
// Pictures are binary PGM files of the model's own size; docs/pictures.md tells how to bring others to it.

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "ink.hpp"
#include "picture.hpp"

// The character of each class, from the metadata: a JSON document that escapes nothing here but \ and ".
static std::vector<std::string> alphabet_of(const Ort::Session &session) {
    Ort::AllocatorWithDefaultOptions allocator;
    const auto about = session.GetModelMetadata().LookupCustomMetadataMapAllocated("rnnspn", allocator);
    const std::string key = "\"alphabet\": \"", text = about ? about.get() : "";
    if (text.find(key) == std::string::npos) throw std::runtime_error("the model was not made by rnnspn");
    std::vector<std::string> characters;
    for (size_t at = text.find(key) + key.size(); at < text.size() && text[at] != '"'; at++) {
        if (text[at] == '\\') at++;
        if ((text[at] & 0xC0) == 0x80) characters.back() += text[at];  // UTF-8: one more byte of the same character
        else characters.emplace_back(1, text[at]);
    }
    return characters;
}

static void read(Ort::Session &session, const std::vector<std::string> &alphabet, Picture picture) {
    prepare(picture);
    const char *inputs[] = {"images"}, *outputs[] = {"digits", "probabilities", "theta"};
    const int64_t shape[] = {1, picture.height, picture.width};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto images =
        Ort::Value::CreateTensor<uint8_t>(memory, picture.levels.data(), picture.levels.size(), shape, 3);
    // the family conv has no theta
    const auto answers = session.Run(Ort::RunOptions(), inputs, &images, 1, outputs, session.GetOutputCount());
    const auto count = [](const Ort::Value &answer) { return answer.GetTensorTypeAndShapeInfo().GetElementCount(); };
    const int64_t *classes = answers[0].GetTensorData<int64_t>();
    size_t length = count(answers[0]);
    while (length && alphabet.at(size_t(classes[length - 1])) == "\u2423") length--;  // blanks after the end
    for (size_t i = 0; i < length; i++) std::printf("%s", alphabet.at(size_t(classes[i])).c_str());
    for (size_t output = 1; output < answers.size(); output++)
        for (size_t i = 0; i < count(answers[output]); i++)
            std::printf("%s%.7f", i ? " " : "\t", answers[output].GetTensorData<float>()[i]);
    std::puts("");
}

int main(int count, char **arguments) try {
    if (count < 3) return std::fputs("usage: read MODEL.onnx PICTURE.pgm...\n", stderr), 2;
    if (!OrtGetApiBase()->GetApi(ORT_API_VERSION)) throw std::runtime_error("the library is older than the headers");
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);  // ONNX Runtime reports to its maker otherwise
    Ort::Env environment(ORT_LOGGING_LEVEL_FATAL);
    Ort::Session session(environment, arguments[1], Ort::SessionOptions());
    const auto alphabet = alphabet_of(session);
    const auto type = session.GetInputTypeInfo(0);
    const auto shape = type.GetTensorTypeAndShapeInfo().GetShape();
    for (int at = 2; at < count; at++) read(session, alphabet, load(arguments[at], shape[1], shape[2]));
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
