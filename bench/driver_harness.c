/* The driver on the simulated machine: a program that does what lines on its standard input say, and answers each in one line.
 *
 *     machine LIBRARY LATENCY ELEMENTS LANES ELEMENT_BITS     the harness's library, as `harness_create` takes it
 *     memory BASE BYTES                         of the machine's bus, from an address on
 *     dump BASE FILE                            what that memory holds
 *     registers FINGERPRINT                     instead: registers that hold what is written, for what needs no more
 *     bare                                      opens with the hooks for registers alone
 *     write BASE FILE                           puts a file's bytes into that memory, as the machine sees it
 *     fill BASE BYTE                            writes all of that memory, as the machine and as the processor see it
 *     open | load FILE OFFSET | loads FILE | bind REGION ADDRESS BYTES | state
 *     place REGION ADDRESS BYTES                binds what holds its contents already and the processor does not touch
 *     start | poll | wait TICKS | abort | interrupt | result | layers | fault BYTES | test TICKS
 *     poke REGISTER VALUE
 *     shape TENSOR | range TENSOR FIRST COUNT | crc TENSOR FROM
 *     put TENSOR FROM TO | get TENSOR FROM TO                        bytes, to and from the memory that is bound
 *     quantize, floats, pixels, pack, integers TENSOR FROM TO                values to stored bytes and back
 *
 * The processor's memory is apart from the machine's, as behind a cache that nobody keeps coherent: a byte goes from the one to
 * the other by the driver's hooks alone.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "intaglio.h"

#define MOST 4096
#define MOST_STRETCHES 256
#define PAUSE_CYCLES 1000u /* between two polls, unless the interrupt comes */

static struct {
    void *(*create)(uint32_t, uint32_t, uint32_t, uint32_t);
    uint8_t *(*add_memory)(void *, uint64_t, uint64_t);
    uint64_t (*cycles)(void *);
    void (*arm)(void *, uint8_t *);
    int (*run)(void *, uint64_t);
    int (*write_register)(void *, uint32_t, uint32_t);
    int (*read_register)(void *, uint32_t, uint32_t *);
    const char *(*bus_error)(void *);
} harness;

/* Memory on the bus, and what the processor sees of it. */
typedef struct {
    uint64_t base, bytes;
    uint8_t *memory, *cached;
} stretch;

static stretch stretches[MOST_STRETCHES];
static unsigned stretch_count;
static void *machine; /* NULL: registers alone */
static uint32_t registers[1024]; /* where there is no machine: what was written is read */
static intaglio_device device;
static intaglio_program program;
static uint8_t *artifact; /* of `program` */

static void fail(const char *why)
{
    fprintf(stderr, "driver harness: %s\n", why);
    exit(2);
}

static uint32_t read32(void *context, uint32_t offset)
{
    uint32_t value = 0;
    (void)context;
    if (machine) {
        if (!harness.read_register(machine, offset, &value))
            fail("the machine does not answer a read");
        return value;
    }
    return registers[offset / 4];
}

static void write32(void *context, uint32_t offset, uint32_t value)
{
    (void)context;
    if (!machine)
        registers[offset / 4] = value;
    else if (!harness.write_register(machine, offset, value))
        fail("the machine does not answer a write");
}

/* The stretch that holds so many bytes from a place of the processor's on. */
static const stretch *holding(const uint8_t *memory, uint32_t bytes)
{
    for (unsigned i = 0; i < stretch_count; i++) {
        const stretch *one = &stretches[i];
        if (memory >= one->cached && memory < one->cached + one->bytes) {
            if (bytes > one->bytes - (uint64_t)(memory - one->cached))
                break;
            return one;
        }
    }
    fail("a hook is called for what is not the machine's memory");
    return NULL;
}

static void clean(void *context, const void *memory, uint32_t bytes)
{
    const stretch *one = holding(memory, bytes);
    (void)context;
    memcpy(one->memory + ((const uint8_t *)memory - one->cached), memory, bytes);
}

static void invalidate(void *context, void *memory, uint32_t bytes)
{
    const stretch *one = holding(memory, bytes);
    (void)context;
    memcpy(memory, one->memory + ((uint8_t *)memory - one->cached), bytes);
}

static void pause_cycles(void *context)
{
    (void)context;
    if (machine)
        harness.run(machine, PAUSE_CYCLES);
}

static uint32_t clock_cycles(void *context)
{
    (void)context;
    return machine ? (uint32_t)harness.cycles(machine) : 0;
}

static const intaglio_port PORT = {NULL, read32, write32, clean, invalidate, pause_cycles, clock_cycles};
/* Of a host that has nothing else. */
static const intaglio_port BARE = {NULL, read32, write32, NULL, NULL, NULL, NULL};

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found)
        fail(dlerror());
    return found;
}

/* POSIX lets an object's pointer hold a function's; C has no conversion. */
#define LOAD(name)                                                     \
    do {                                                               \
        void *found = symbol(library, "harness_" #name);               \
        memcpy(&harness.name, &found, sizeof found);                   \
    } while (0)

static void open_machine(const char *path, const uint64_t numbers[4])
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        fail(dlerror());
    LOAD(create);
    LOAD(add_memory);
    LOAD(cycles);
    LOAD(arm);
    LOAD(run);
    LOAD(write_register);
    LOAD(read_register);
    LOAD(bus_error);
    machine = harness.create((uint32_t)numbers[0], (uint32_t)numbers[1], (uint32_t)numbers[2], (uint32_t)numbers[3]);
    if (!machine)
        fail("the library does not take these arguments");
    harness.arm(machine, NULL); /* no probes */
}

static void add_memory(uint64_t base, uint64_t bytes)
{
    stretch *one = &stretches[stretch_count++];
    if (stretch_count > MOST_STRETCHES)
        fail("too many stretches of memory");
    *one = (stretch){base, bytes, NULL, aligned_alloc(64, (size_t)(bytes + 63u) / 64u * 64u)};
    one->memory = machine ? harness.add_memory(machine, base, bytes) : malloc((size_t)bytes);
    if (!one->cached || !one->memory)
        fail("no memory");
    memset(one->memory, 0xa5, (size_t)bytes);
    memset(one->cached, 0x5a, (size_t)bytes);
}

/* The whole content of a file, in memory of just its size. */
static uint8_t *content(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail(path);
    *bytes = (size_t)ftell(file);
    uint8_t *data = malloc(*bytes ? *bytes : 1);
    rewind(file);
    if (!data || fread(data, 1, *bytes, file) != *bytes)
        fail(path);
    fclose(file);
    return data;
}

static void keep(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file))
        fail(path);
}

static void write_file(uint64_t base, const char *path)
{
    size_t bytes;
    uint8_t *data = content(path, &bytes);
    for (unsigned i = 0; i < stretch_count; i++)
        if (stretches[i].base == base)
            memcpy(stretches[i].memory, data, bytes < stretches[i].bytes ? bytes : (size_t)stretches[i].bytes);
    free(data);
    printf("0\n");
}

static void fill(uint64_t base, int byte)
{
    for (unsigned i = 0; i < stretch_count; i++)
        if (stretches[i].base == base) {
            memset(stretches[i].memory, byte, (size_t)stretches[i].bytes);
            memset(stretches[i].cached, byte, (size_t)stretches[i].bytes);
        }
    printf("0\n");
}

static void dump(uint64_t base, const char *path)
{
    for (unsigned i = 0; i < stretch_count; i++)
        if (stretches[i].base == base)
            keep(path, stretches[i].memory, (size_t)stretches[i].bytes);
    printf("0\n");
}

/* Reads all that an artifact says, as a user would; what a wrong index reads is seen by the sanitizers. */
static uint64_t walk(const intaglio_program *walked)
{
    uint64_t sum = 0;
    intaglio_region region;
    intaglio_tensor tensor;
    intaglio_layer layer;
    for (uint32_t i = 0; !intaglio_get_region(walked, i, &region); i++)
        for (uint32_t place = 0; place < region.contents_bytes; place++)
            sum += region.contents[place];
    for (uint32_t i = 0; !intaglio_get_tensor(walked, i, &tensor); i++) {
        sum += strlen(tensor.name);
        /* One value, the last: as many bytes as the tensor is said to have may be much. */
        if (tensor.elements && tensor.bytes < 1u << 20) {
            uint8_t *bytes = calloc(tensor.bytes, 1);
            float value = 1;
            int64_t integer;
            if (!bytes)
                fail("no memory");
            (void)intaglio_write_floats(walked, &tensor, bytes, tensor.elements - 1u, 1, &value);
            (void)intaglio_read_floats(walked, &tensor, bytes, tensor.elements - 1u, 1, &value);
            (void)intaglio_read_integers(&tensor, bytes, tensor.elements - 1u, 1, &integer);
            sum += intaglio_tensor_crc(&tensor, bytes);
            free(bytes);
        }
    }
    for (uint32_t i = 0; !intaglio_get_layer(walked, i, &layer); i++) {
        uint32_t cycles = 0;
        sum += strlen(layer.name) + strlen(layer.op);
        (void)intaglio_layer_cycles(walked, i, &cycles);
    }
    for (uint32_t command = 0; command < walked->command_count; command++) {
        intaglio_fault fault;
        intaglio_get_fault(walked, &fault);
        (void)fault;
    }
    return sum;
}

/* A file of artifacts, each behind its size (32 bits): the status of each. */
static void load_many(const char *path)
{
    size_t bytes;
    uint8_t *data = content(path, &bytes);
    for (size_t place = 0; place + 4 <= bytes;) {
        const uint32_t size = intaglio_word(data + place);
        uint8_t *one = malloc(size ? size : 1);
        if (!one || size > bytes - place - 4)
            fail("a file of artifacts that is cut");
        memcpy(one, data + place + 4, size);
        place += 4 + (size_t)size;
        intaglio_program loaded;
        const intaglio_status status = intaglio_load(&loaded, &device, one, size);
        if (!status)
            walk(&loaded);
        printf("%d ", (int)status);
        free(one);
    }
    printf("\n");
    free(data);
}

/* So many bytes behind where a word would lie. */
static void load_one(const char *path, uint64_t behind)
{
    size_t bytes;
    uint8_t *data = content(path, &bytes);
    free(artifact);
    artifact = malloc(bytes + behind);
    if (!artifact)
        fail("no memory");
    memcpy(artifact + behind, data, bytes);
    free(data);
    printf("%d\n", (int)intaglio_load(&program, &device, artifact + behind, bytes));
}

static void print_test(uint32_t ticks)
{
    intaglio_report report;
    const intaglio_status status = intaglio_self_test(&program, ticks, &report);
    printf("%d %u %u %u %d %d\n", (int)status, report.tests, report.equal, report.test, (int)report.output,
           (int)report.layer);
}

static void print_result(void)
{
    uint32_t counters[INTAGLIO_COUNTERS];
    intaglio_result(&program, counters);
    for (uint32_t i = 0; i < INTAGLIO_COUNTERS; i++)
        printf("%u ", counters[i]);
    printf("\n");
}

static void print_layers(void)
{
    intaglio_layer layer;
    for (uint32_t i = 0; !intaglio_get_layer(&program, i, &layer); i++) {
        uint32_t cycles = 0;
        (void)intaglio_layer_cycles(&program, i, &cycles);
        printf("%u ", cycles);
    }
    printf("\n");
}

/* In so many bytes: the text's length, and as much of it as fits; what goes beyond them the sanitizers see. */
static void print_fault(size_t bytes)
{
    char *text = malloc(bytes ? bytes : 1);
    intaglio_fault fault;
    if (!text)
        fail("no memory");
    *text = 0;
    intaglio_get_fault(&program, &fault);
    const size_t length = intaglio_fault_text(&fault, text, bytes);
    printf("%zu %s: %s\n", length, text, intaglio_cause_text(fault.cause));
    free(text);
}

static void print_shape(uint32_t index)
{
    intaglio_tensor tensor;
    if (intaglio_get_tensor(&program, index, &tensor))
        fail("no such tensor");
    for (uint32_t number = 0; number <= tensor.rank; number++)
        printf("%u ", intaglio_dimension(&program, &tensor, number));
    printf("\n");
}

/* Whether a tensor has so many values from the first on: nothing is touched where it has not. */
static void print_range(uint32_t index, uint32_t first, uint32_t count)
{
    intaglio_tensor tensor;
    uint8_t *bytes;
    int64_t *values = calloc(1, sizeof *values);
    float *floats = calloc(1, sizeof *floats);
    if (!values || !floats || intaglio_get_tensor(&program, index, &tensor) || !(bytes = calloc(tensor.bytes, 1)))
        fail("no such tensor, or no memory");
    printf("%d %d %d %d\n", (int)intaglio_read_integers(&tensor, bytes, first, count, values),
           (int)intaglio_write_integers(&tensor, bytes, first, count, values),
           (int)intaglio_read_floats(&program, &tensor, bytes, first, count, floats),
           (int)intaglio_write_floats(&program, &tensor, bytes, first, count, floats));
    free(bytes);
    free(values);
    free(floats);
}

/* Values of a tensor from a file, to a file. */
static void convert(const char *what, uint32_t index, const char *from, const char *to)
{
    intaglio_tensor tensor;
    if (intaglio_get_tensor(&program, index, &tensor)) {
        printf("%d\n", (int)INTAGLIO_NONE_SUCH);
        return;
    }
    size_t bytes;
    uint8_t *data = content(from, &bytes);
    intaglio_status status = INTAGLIO_OK;
    if (!strcmp(what, "put") || !strcmp(what, "get")) { /* bytes, to or from the memory that is bound */
        uint8_t *memory = intaglio_tensor_memory(&program, &tensor);
        if (!memory)
            fail("the region has no memory");
        if (*what == 'p')
            memcpy(memory, data, bytes < tensor.bytes ? bytes : tensor.bytes);
        else
            keep(to, memory, tensor.bytes);
    } else if (!strcmp(what, "floats") || !strcmp(what, "integers")) { /* of stored bytes */
        uint8_t *values = calloc(tensor.elements, 8);
        if (!values || bytes < tensor.bytes)
            fail("too few bytes");
        if (*what == 'f')
            status = intaglio_read_floats(&program, &tensor, data, 0, tensor.elements, (float *)(void *)values);
        else
            status = intaglio_read_integers(&tensor, data, 0, tensor.elements, (int64_t *)(void *)values);
        keep(to, values, (size_t)tensor.elements * (*what == 'f' ? 4 : 8));
        free(values);
    } else { /* quantize: single precision; pixels: bytes; pack: 64 bits */
        const size_t each = !strcmp(what, "quantize") ? 4 : !strcmp(what, "pixels") ? 1 : 8;
        uint8_t *stored = calloc(tensor.bytes, 1);
        if (!stored || bytes != tensor.elements * each)
            fail("another number of values");
        if (each == 4)
            status = intaglio_write_floats(&program, &tensor, stored, 0, tensor.elements, (float *)(void *)data);
        else if (each == 1)
            status = intaglio_write_pixels(&program, &tensor, stored, 0, tensor.elements, data);
        else
            status = intaglio_write_integers(&tensor, stored, 0, tensor.elements, (int64_t *)(void *)data);
        keep(to, stored, tensor.bytes);
        free(stored);
    }
    printf("%d\n", (int)status);
    free(data);
}

static void print_crc(uint32_t index, const char *from)
{
    size_t bytes;
    intaglio_tensor tensor;
    uint8_t *data = content(from, &bytes);
    if (intaglio_get_tensor(&program, index, &tensor) || bytes != tensor.bytes)
        fail("another tensor");
    printf("%u\n", intaglio_tensor_crc(&tensor, data));
    free(data);
}

static void bind(uint32_t region, uint64_t address, uint32_t bytes)
{
    uint8_t *memory = NULL; /* what lies outside the machine's memory is none of the processor's */
    for (unsigned i = 0; i < stretch_count; i++) {
        const uint64_t offset = address - stretches[i].base;
        if (address >= stretches[i].base && offset < stretches[i].bytes && bytes <= stretches[i].bytes - offset)
            memory = stretches[i].cached + offset;
    }
    printf("%d\n", (int)intaglio_bind(&program, region, memory, address, bytes));
}

static void obey(const char *what, uint64_t first, uint64_t second, uint64_t third)
{
    if (!strcmp(what, "open"))
        printf("%d\n", (int)intaglio_open(&device, &PORT));
    else if (!strcmp(what, "place"))
        printf("%d\n", (int)intaglio_bind(&program, (uint32_t)first, NULL, second, (uint32_t)third));
    else if (!strcmp(what, "bare"))
        printf("%d\n", (int)intaglio_open(&device, &BARE));
    else if (!strcmp(what, "fill"))
        fill(first, (int)second);
    else if (!strcmp(what, "bind"))
        bind((uint32_t)first, second, (uint32_t)third);
    else if (!strcmp(what, "state"))
        printf("%d\n", (int)intaglio_reset_state(&program));
    else if (!strcmp(what, "start"))
        printf("%d\n", (int)intaglio_start(&program));
    else if (!strcmp(what, "poll"))
        printf("%d\n", (int)intaglio_poll(&program));
    else if (!strcmp(what, "wait"))
        printf("%d\n", (int)intaglio_wait(&program, (uint32_t)first));
    else if (!strcmp(what, "abort"))
        intaglio_abort(&program), printf("0\n");
    else if (!strcmp(what, "interrupt"))
        printf("%d\n", intaglio_interrupt(&device));
    else if (!strcmp(what, "result"))
        print_result();
    else if (!strcmp(what, "layers"))
        print_layers();
    else if (!strcmp(what, "fault"))
        print_fault((size_t)first);
    else if (!strcmp(what, "shape"))
        print_shape((uint32_t)first);
    else if (!strcmp(what, "range"))
        print_range((uint32_t)first, (uint32_t)second, (uint32_t)third);
    else if (!strcmp(what, "test"))
        print_test((uint32_t)first);
    else if (!strcmp(what, "poke"))
        write32(NULL, (uint32_t)first, (uint32_t)second), printf("0\n");
    else
        fail(what);
}

int main(void)
{
    static char line[MOST], what[MOST], from[MOST], to[MOST];
    uint64_t n[4] = {0};
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "machine %s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, from, n, n + 1, n + 2, n + 3) == 5) {
            open_machine(from, n);
            printf("0\n");
        } else if (sscanf(line, "memory %" SCNu64 " %" SCNu64, n, n + 1) == 2) {
            add_memory(n[0], n[1]);
            printf("0\n");
        } else if (sscanf(line, "registers %" SCNu64, n) == 1) {
            registers[INTAGLIO_REGISTER_ID / 4] = INTAGLIO_ID;
            registers[INTAGLIO_REGISTER_VERSION / 4] = INTAGLIO_VERSION;
            registers[INTAGLIO_REGISTER_FINGERPRINT / 4] = (uint32_t)n[0];
            printf("0\n");
        } else if (sscanf(line, "dump %" SCNu64 " %s", n, to) == 2) {
            dump(*n, to);
        } else if (sscanf(line, "write %" SCNu64 " %s", n, from) == 2) {
            write_file(*n, from);
        } else if (sscanf(line, "crc %" SCNu64 " %s", n, from) == 2) {
            print_crc((uint32_t)*n, from);
        } else if (sscanf(line, "loads %s", from) == 1) {
            load_many(from);
        } else if (sscanf(line, "load %s %" SCNu64, from, n) == 2) {
            load_one(from, n[0]);
        } else if (sscanf(line, "%s %" SCNu64 " %s %s", what, n, from, to) == 4 && strcmp(what, "bind") &&
                   strcmp(what, "place") && strcmp(what, "range")) {
            convert(what, (uint32_t)*n, from, to);
        } else {
            n[0] = n[1] = n[2] = 0;
            if (sscanf(line, "%s %" SCNu64 " %" SCNu64 " %" SCNu64, what, n, n + 1, n + 2) < 1)
                fail("an empty line");
            obey(what, n[0], n[1], n[2]);
        }
        if (machine && *harness.bus_error(machine))
            fail(harness.bus_error(machine));
        fflush(stdout);
    }
    free(artifact);
    for (unsigned i = 0; i < stretch_count; i++) {
        free(stretches[i].cached);
        if (!machine)
            free(stretches[i].memory);
    }
    return 0;
}
