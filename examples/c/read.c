/* Read digit sequences with an exported model: grey levels in, digits out, nothing else to prepare.
 *
 *   cc -std=c11 -I INCLUDE read.c LIBRARY -o read     INCLUDE: folder of onnxruntime_c_api.h; LIBRARY: libonnxruntime.so
 *   ./read MODEL.onnx PICTURE.pgm...                  a line a picture: digits, probabilities, theta, tabs between
 *
 * Pictures are binary PGM files of the model's own size, light on dark. */

#define _POSIX_C_SOURCE 200112L /* setenv */

#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>

static const OrtApi *api;

static void check(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "error: %s\n", api->GetErrorMessage(status));
    exit(1);
}

static uint8_t *load(const char *path, int64_t *height, int64_t *width) {
    FILE *file = fopen(path, "rb");
    int columns, rows;
    if (!file || fscanf(file, "P5 %d %d 255", &columns, &rows) != 2 || fgetc(file) == EOF || columns < 1 || rows < 1 ||
        columns > 4096 || rows > 4096) {
        fprintf(stderr, "error: %s is no binary PGM file of 8 bits\n", path);
        exit(1);
    }
    size_t count = (size_t)columns * (size_t)rows;
    uint8_t *levels = malloc(count); /* row by row, 0 for the background and 255 for ink */
    if (!levels || fread(levels, 1, count, file) != count) {
        fprintf(stderr, "error: %s is cut off\n", path);
        exit(1);
    }
    fclose(file);
    *height = rows, *width = columns;
    return levels;
}

static size_t values(OrtValue *tensor, void **data) {
    OrtTensorTypeAndShapeInfo *shape;
    size_t count;
    check(api->GetTensorTypeAndShape(tensor, &shape));
    check(api->GetTensorShapeElementCount(shape, &count));
    api->ReleaseTensorTypeAndShapeInfo(shape);
    check(api->GetTensorMutableData(tensor, data));
    return count;
}

static void read_picture(OrtSession *session, OrtMemoryInfo *memory, const char *path) {
    const char *inputs[] = {"images"}, *outputs[] = {"digits", "probabilities", "theta"};
    size_t output_count; /* the family conv has no theta */
    check(api->SessionGetOutputCount(session, &output_count));
    int64_t shape[] = {1, 0, 0};
    uint8_t *levels = load(path, &shape[1], &shape[2]);
    OrtValue *images = NULL, *answers[3] = {NULL, NULL, NULL};
    check(api->CreateTensorWithDataAsOrtValue(memory, levels, (size_t)(shape[1] * shape[2]), shape, 3,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &images));
    check(api->Run(session, NULL, inputs, (const OrtValue *const *)&images, 1, outputs, output_count,
                   answers));
    for (size_t output = 0; output < output_count; output++) {
        void *data;
        size_t count = values(answers[output], &data);
        for (size_t i = 0; i < count; i++)
            output ? printf("%s%.7f", i ? " " : "\t", ((float *)data)[i]) : printf("%d", (int)((int64_t *)data)[i]);
        api->ReleaseValue(answers[output]);
    }
    putchar('\n');
    api->ReleaseValue(images);
    free(levels);
}

int main(int count, char **arguments) {
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtMemoryInfo *memory;
    if (count < 3) return fprintf(stderr, "usage: read MODEL.onnx PICTURE.pgm...\n"), 2;
    api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!api) return fprintf(stderr, "error: the library is older than the header\n"), 1;
    setenv("ORT_DISABLE_TELEMETRY", "1", 0); /* ONNX Runtime reports to its maker otherwise */
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "rnnspn", &environment));
    check(api->CreateSessionOptions(&options));
    check(api->CreateSession(environment, arguments[1], options, &session));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    for (int picture = 2; picture < count; picture++) read_picture(session, memory, arguments[picture]);
    api->ReleaseMemoryInfo(memory);
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
    api->ReleaseEnv(environment);
    return 0;
}
