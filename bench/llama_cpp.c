/* Requests to llama.cpp: a prompt once, then steps of some beams over it; the program that bench/llama_cpp.py drives.

   llama_cpp MODEL.gguf THREADS FLASH TOKEN...    each line of the input is a number of beams and one of steps, each
   line of the output what one request took. Steps take the tokens of the prompt in turn: their values cost nothing. */

#include "llama.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_BEAMS = 8, FIRST_TOKEN = 4 };

typedef struct {
    double cpu, wall;
} Times;

static double milliseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static Times now(void) {
    return (Times){milliseconds(CLOCK_PROCESS_CPUTIME_ID), milliseconds(CLOCK_MONOTONIC)};
}

static Times since(Times begin) {
    Times end = now();
    return (Times){end.cpu - begin.cpu, end.wall - begin.wall};
}

static void fail(const char *what) {
    fprintf(stderr, "llama_cpp: %s\n", what);
    exit(1);
}

static void errors_only(enum ggml_log_level level, const char *text, void *unused) {
    (void)unused;
    if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static struct llama_context *new_context(struct llama_model *model, int threads, int flash, int rows, int steps, int beams) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = rows + steps * beams + 256;
    params.n_batch = rows;  /* n_ubatch stays at its default, 512: more is slower */
    params.n_seq_max = beams;
    params.n_threads = params.n_threads_batch = threads;
    params.kv_unified = true;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context) fail("no context");
    return context;
}

static void put(struct llama_batch *batch, int row, int token, int position, int sequence, int scored) {
    batch->token[row] = token;
    batch->pos[row] = position;
    batch->n_seq_id[row] = 1;
    batch->seq_id[row][0] = sequence;
    batch->logits[row] = scored;
}

static Times decode(struct llama_context *context, struct llama_batch batch) {
    Times begin = now();
    if (llama_decode(context, batch)) fail("decode failed");
    llama_get_logits_ith(context, batch.n_tokens - 1);
    return since(begin);
}

static void request(struct llama_model *model, int threads, int flash, int steps, int rows, char **tokens, int beams) {
    struct llama_context *context = new_context(model, threads, flash, rows, steps, beams);
    struct llama_batch batch = llama_batch_init(rows > beams ? rows : beams, 0, 1);
    batch.n_tokens = rows;
    for (int i = 0; i < rows; i++) put(&batch, i, atoi(tokens[i]), i, 0, i == rows - 1);
    Times prefill = decode(context, batch);
    const float *logits = llama_get_logits_ith(context, rows - 1);
    int best = 0, words = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (int i = 1; i < words; i++) best = logits[i] > logits[best] ? i : best;
    printf("{\"best\": %d, \"best_logit\": %g, \"prefill\": [%g, %g], \"steps\": [", best, logits[best], prefill.cpu, prefill.wall);
    for (int beam = 1; beam < beams; beam++) llama_memory_seq_cp(llama_get_memory(context), 0, beam, -1, -1);
    batch.n_tokens = beams;
    for (int step = 0; step < steps; step++) {
        for (int beam = 0; beam < beams; beam++) put(&batch, beam, atoi(tokens[(step + beam) % rows]), rows + step, beam, 1);
        Times took = decode(context, batch);
        printf("%s[%g, %g]", step ? ", " : "", took.cpu, took.wall);
    }
    puts("]}");
    fflush(stdout);
    llama_batch_free(batch);
    llama_free(context);
}

int main(int count, char **words) {
    if (count <= FIRST_TOKEN) fail("MODEL.gguf THREADS FLASH TOKEN...");
    llama_log_set(errors_only, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(words[1], llama_model_default_params());
    if (!model) fail("the model does not load");
    for (int beams, steps; scanf("%d %d", &beams, &steps) == 2;) {
        if (beams < 1 || beams > MOST_BEAMS) fail("a number of beams that it does not take");
        request(model, atoi(words[2]), atoi(words[3]), steps, count - FIRST_TOKEN, words + FIRST_TOKEN, beams);
    }
    return 0;
}
