// SPDX-License-Identifier: Apache-2.0
/*
 * Loads a BPF object with variables of .rodata set, as the daemon does, and says what the verifier walked.
 * Static. load OBJECT [VARIABLE=U32]... Lines on stdout: "load OBJECT PROGRAM INSTRUCTIONS", then "load
 * OBJECT done", or "load OBJECT failed ERRNO".
 */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes from the start of .rodata to a variable of 4 bytes; -1 without one. */
static long offset_of(const struct btf *btf, const char *variable)
{
	const struct btf_type *section =
		btf__type_by_id(btf, btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC));
	const struct btf_var_secinfo *info = section ? btf_var_secinfos(section) : NULL;

	for (int i = 0; info && i < btf_vlen(section); i++) {
		const struct btf_type *var = btf__type_by_id(btf, info[i].type);
		if (info[i].size == 4 && strcmp(btf__name_by_offset(btf, var->name_off), variable) == 0)
			return info[i].offset;
	}
	return -1;
}

static int set(struct bpf_object *object, char *assignment)
{
	struct bpf_map *map;
	char *value = strchr(assignment, '=');
	long offset;

	if (!value)
		return -1;
	*value++ = 0;
	offset = offset_of(bpf_object__btf(object), assignment);
	bpf_object__for_each_map(map, object)
	{
		size_t size;
		char *data = (char *)bpf_map__initial_value(map, &size); /* const in libbpf 1.1 by mistake */
		if (data && offset >= 0 && strstr(bpf_map__name(map), ".rodata")) {
			unsigned number = strtoul(value, NULL, 0);
			memcpy(data + offset, &number, sizeof(number));
			return 0;
		}
	}
	return -1;
}

/* Why it does not load, line by line: the console is all that leaves the machine. */
static int say(enum libbpf_print_level level, const char *format, va_list arguments)
{
	static char text[1 << 20];

	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(text, sizeof(text), format, arguments);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		printf("load says %s\n", line);
	return 0;
}

int main(int argc, char **argv)
{
	struct bpf_program *program;
	struct bpf_object *object = argc > 1 ? bpf_object__open_file(argv[1], NULL) : NULL;
	int error;

	if (!object)
		return 2;
	libbpf_set_print(say);
	for (int i = 2; i < argc; i++)
		if (set(object, argv[i]) != 0) {
			printf("load %s failed: no variable %s\n", argv[1], argv[i]);
			return 2;
		}
	error = bpf_object__load(object);
	if (error) {
		printf("load %s failed %d\n", argv[1], error);
		return 1;
	}
	bpf_object__for_each_program(program, object)
	{
		struct bpf_prog_info info = {};
		unsigned size = sizeof(info);
		if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0)
			printf("load %s %s %u\n", argv[1], bpf_program__name(program), info.verified_insns);
	}
	printf("load %s done\n", argv[1]);
	return 0;
}
