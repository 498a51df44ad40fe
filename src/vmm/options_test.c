/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: what is taken, and what each mistake is answered with. */
#include "vmm/options.h"

#include <string.h>

#include "accel/accel.h"
#include "cpu/x86/x86_model.h"
#include "vmm/core/chardev.h"
#include "vmm/core/device.h"
#include "vmm/core/machine.h"
#include "vmm/core/object.h"

/* What the options ask other rooms. */
static const struct accel_ops kvm = { .name = "kvm", .help = "the kernel" }, jit = { .name = "jit", .help = "translator" };
const struct accel_ops *const *accel_list(void)
{
    static const struct accel_ops *const list[] = { &kvm, &jit, NULL };
    return list;
}
static const struct device_class rng = { .name = "virtio-rng-pci", .help = "random numbers", .bus = DEV_BUS_PCI, .user_creatable = true };
const struct device_class *const *device_class_list(void)
{
    static const struct device_class *const list[] = { &rng, NULL };
    return list;
}
bool device_class_missing(const char *name) { return !strcmp(name, "later"); }
const struct device_class *device_class_find(const char *name) { return strcmp(name, rng.name) ? NULL : &rng; }
char *device_class_help(const struct device_class *c) { return g_strdup(c->help); }
char *x86_cpu_help(void) { return g_strdup("max\n"); }
char *object_help(const char *name) { return g_strdup("memory-backend-ram\n"); }
char *chardev_help(void) { return g_strdup("null\n"); }

static enum options_result parse(struct options *o, const char *line, char **ret_error)
{
    g_auto(GStrv) argv = NULL;
    int argc;
    g_autofree char *full = g_strdup_printf("vireo-vmm %s", line);
    g_autoptr(GError) error = NULL;
    g_assert_true(g_shell_parse_argv(full, &argc, &argv, NULL));
    enum options_result r = options_parse(o, argc, argv, &error);
    *ret_error = error ? g_strdup(error->message) : NULL;
    g_assert(!!error == (r == OPTIONS_ERROR));
    return r;
}

static void test_bad(void)
{
    static const struct { const char *line, *message; } bad[] = {
        { "-kernel k -bios b", "-bios: a kernel given with -kernel is started without firmware; leave one of them out" },
        { "-kernel k", "there are no windows for the display; use -nographic for a serial console in this terminal, -vnc 127.0.0.1:0 for a VNC server, or -display none" },
        { "-append x", "-append only allowed with -kernel option" },
        { "-initrd x", "-initrd only allowed with -kernel option" },
        { "-m", "-m: requires an argument: -m [size=]SIZE[,slots=N][,maxmem=SIZE]" },
        { "-m 12x", "-m 12x: Parameter 'size' expects a size below 2^64 with an optional suffix K, M, G, T, P or E, not '12x'" },
        { "-m 0", "-m 0: the memory must have between 1M and 1T, not 0" },
        { "-m 1G,slots=2", "-m 1G,slots=2: invalid -m option value: 'slots' given without 'maxmem', the memory that there is room for" },
        { "-m 1G,maxmem=512M", "-m 1G,maxmem=512M: invalid value of maxmem: maximum memory size (0x20000000) must be at least the initial memory size "
                               "(0x40000000)" },
        { "-object id=a", "-object id=a: Parameter 'qom-type' is missing" },
        { "-overcommit mem-lock=maybe", "-overcommit mem-lock=maybe: Parameter 'mem-lock' expects 'on' or 'off', not 'maybe'" },
        { "-smp 0", "-smp 0: Parameter 'cpus' must lie between 1 and 255, not 0" },
        { "-smp 4,cores=3", "-smp 4,cores=3: Invalid CPU topology: product of the hierarchy must match maxcpus: sockets (1) * cores (3) * threads (1) "
                            "!= maxcpus (4)" },
        { "-smp 3,maxcpus=2", "-smp 3,maxcpus=2: maxcpus must be equal to or greater than smp: maxcpus (2), cpus (3)" },
        { "-machine foo", "-machine foo: unsupported machine type 'foo'; there are: q35, microvm" },
        { "-M pc", "-M pc: the i440FX machine 'pc' is not there; use q35, which runs the same guests" },
        { "-accel warp", "-accel warp: invalid accelerator warp; there are: kvm, jit, auto" },
        { "-accel kvm:warp", "-accel kvm:warp: invalid accelerator warp; there are: kvm, jit, auto" },
        { "-accel kvm,dirty-ring-size=1000", "-accel kvm,dirty-ring-size=1000: dirty-ring-size must be a power of two, not 1000" },
        { "-accel kvm,kernel-irqchip=maybe", "-accel kvm,kernel-irqchip=maybe: Parameter 'kernel-irqchip' does not accept 'maybe'; there are: 'off', 'split', 'on'" },
        { "-accel jit -M q35,accel=auto", "The -accel and \"-machine accel=\" options are incompatible; keep one of them" },
        { "x.img -hda y", "-hda y: drive with bus=0, unit=0 (index=0) exists" },
        { "-drive if=floppy,file=x", "-drive if=floppy,file=x: if=floppy is not there yet; use if=ide, if=scsi, if=virtio, or if=none for a -device" },
        { "-drive file=x,unit=1,bus=0", "-drive file=x,unit=1,bus=0: unit 1 too big (max is 0)" },
        { "-global nothing.a=b", "-global nothing.a=b: there is no device 'nothing' whose properties can be set; -device help lists those that can" },
        { "-audiodev none", "-audiodev none: Parameter 'id' is missing; add id=NAME" },
        { "-audiodev none,id=a -audiodev wav,id=a", "-audiodev wav,id=a: Duplicate ID 'a' for audiodev" },
        { "-usbdevice disk", "-usbdevice disk: there are: tablet, mouse, keyboard; for another device use -device" },
        { "-smbios serial=1", "-smbios serial=1: Parameter 'type' is missing; there are the types 0, 1, 2, 3 and 11" },
        { "-smbios type=4,serial=1", "-smbios type=4,serial=1: structures cannot be made of type 4; there are the types 0, 1, 2, 3 and 11" },
        { "-smbios type=0,serial=1", "-smbios type=0,serial=1: Invalid parameter 'serial'; type 0 has: vendor, version, date, release, uefi" },
        { "-smbios type=0,release=1", "-smbios type=0,release=1: Parameter 'release' expects two numbers up to 255, as 1.2, not '1'" },
        { "-smbios type=0,uefi=on", "-smbios type=0,uefi=on: uefi=on is not available: the machine's firmware is a BIOS" },
        { "-smbios type=1,uuid=7", "-smbios type=1,uuid=7: Parameter 'uuid' expects xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, not '7'" },
        { "-smbios file=x", "-smbios file=x: tables cannot be read from a file; give their texts: type=1,serial=TEXT" },
        { "-drive if=virtio", "-drive if=virtio: no image; add file=FILE" },
        { "-drive if=virtio,file=x,cache=none,cache.no-flush=on", "-drive if=virtio,file=x,cache=none,cache.no-flush=on: cache= and cache.* contradict each "
                                                                  "other; keep one of them" },
        { "-drive if=virtio,file=x,index=1,unit=2", "-drive if=virtio,file=x,index=1,unit=2: index cannot be used with bus and unit" },
        { "-drive if=virtio,file=x,detect-zeroes=unmap", "-drive if=virtio,file=x,detect-zeroes=unmap: detect-zeroes=unmap needs discard=unmap" },
        { "-drive if=none,id=a,file=x -drive if=none,id=a,file=y", "-drive if=none,id=a,file=y: Duplicate ID 'a' for drive" },
        { "-blockdev driver=raw", "-blockdev driver=raw: Parameter 'node-name' is missing; add node-name=NAME" },
        { "-netdev user", "-netdev user: Parameter 'id' is missing; add id=NAME" },
        { "-net user", "-net user: only none is there; use -nic user,model=virtio-net-pci" },
        { "-monitor stdio", "-monitor stdio: not available: there is no monitor for humans yet; use -qmp; accepted: none" },
        { "-display gtk", "-display gtk: not available: there are no windows; accepted: none, vnc=HOST:NUMBER" },
        { "-vnc :1 -vnc :2", "-vnc :2: there is one VNC server a machine, and -vnc :1 was given already" },
        { "-k de", "-k de: not available: viewers that send scan codes (virt-viewer, TigerVNC) need no layout; of others a US keyboard is assumed; accepted: en-us" },
        { "-mon a", "-mon a: there is no monitor for humans yet; add mode=control" },
        { "-uuid x", "-uuid x: failed to parse UUID string: wrong format; expected xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx" },
        { "-rtc base=x", "-rtc base=x: invalid datetime format 'x'; valid: utc, localtime, 2006-06-17T16:01:21, 2006-06-17" },
        { "-boot x", "-boot x: order=x: an order is made of the letters a, c, d and n" },
        { "-sandbox on,spawn=maybe", "-sandbox on,spawn=maybe: Parameter 'spawn=maybe' is not available: it takes allow or deny" },
        { "-add-fd fd=1,set=0", "-add-fd fd=1,set=0: fd=1 is one of the standard streams; pass another number, at least 3" },
        { "-add-fd set=0", "-add-fd set=0: Parameter 'fd' is missing" },
        { "-add-fd fd=1000,set=0", "-add-fd fd=1000,set=0: file descriptor 1000 is not open" },
        { "-kernel k -nographic -daemonize", "-nographic cannot be used with -daemonize; use -display none" },
        { "-device a,id=x -device b,id=x", "-device b,id=x: Duplicate ID 'x' for device" },
        { "-device foo,help", "-device foo,help: 'foo' is not a valid device model name; -device help lists them" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct options o;
        g_autofree char *error = NULL;
        g_assert_cmpint(parse(&o, bad[i].line, &error), ==, OPTIONS_ERROR);
        g_assert_cmpstr(error, ==, bad[i].message);
        options_clear(&o);
    }
    struct options o;
    g_autofree char *error = NULL;
    g_assert_cmpint(parse(&o, "--nographics", &error), ==, OPTIONS_ERROR);
    g_assert_true(g_str_has_prefix(error, "--nographics: invalid option; did you mean -nographic? there are: -h -help "));
    options_clear(&o);
}

static void test_machine(void)
{
    struct options o;
    g_autofree char *error = NULL;
    g_assert_cmpint(parse(&o, "-M pc-q35-7.2,accel=jit,usb=off -m 1.5G -smp 8,sockets=2,threads=2 -cpu max,-avx -name guest=a,,b -nodefaults -S "
                              "-uuid 12345678-1234-1234-1234-123456789ABC -rtc base=2020-02-29,clock=host -kernel k --append 'x y=1,2' -boot c "
                              "-no-reboot -display none -monitor none -no-user-config -sandbox off", &error), ==, OPTIONS_RUN);
    const struct machine_config *c = o.config;
    g_assert_cmpstr(c->board, ==, "q35");
    g_assert_cmpstr(c->accel_name, ==, "jit");
    g_assert_cmpuint(c->ram_size, ==, 3ull << 29);
    g_assert(c->cpus == 8 && c->sockets == 2 && c->cores == 2 && c->threads == 2);
    g_assert_cmpstr(c->name, ==, "a,b");
    g_assert_cmpstr(c->append, ==, "x y=1,2");
    g_assert_cmpstr(c->uuid, ==, "12345678-1234-1234-1234-123456789abc");
    g_assert_cmpint(c->rtc_base, ==, 1582934400);
    g_assert(c->nodefaults && c->start_paused && c->no_reboot && !c->no_shutdown);
    options_clear(&o);
}

static void test_disks(void)
{
    struct options o;
    g_autofree char *error = NULL;
    g_assert_cmpint(parse(&o, "-kernel k -nographic -drive file=a,,1,if=virtio,format=raw,readonly=on,cache=none,werror=stop "
                              "-drive if=none,id=d1,file=b -blockdev driver=raw,node-name=r,file=f,read-only=on "
                              "-blockdev driver=file,node-name=f,filename=img,cache.direct=on "
                              "-blockdev '{\"driver\":\"raw\",\"node-name\":\"j\",\"file\":{\"driver\":\"file\",\"filename\":\"j.img\"}}'", &error),
                    ==, OPTIONS_RUN);
    g_assert_cmpuint(o.drives->len, ==, 2);
    g_assert_cmpuint(o.blockdevs->len, ==, 3);
    const struct blockdev_drive *d = &((const struct option_drive *)o.drives->pdata[0])->drive;
    g_assert_cmpstr(d->file, ==, "a,1");
    g_assert_cmpstr(d->id, ==, "virtio0");
    g_assert(d->interface == BLOCKDEV_IF_VIRTIO && d->flags == BLOCK_DIRECT && d->werror == BLOCK_ON_ERROR_STOP && !d->write_through);
    d = &((const struct option_drive *)o.drives->pdata[1])->drive;
    g_assert(d->interface == BLOCKDEV_IF_NONE && !d->format && d->werror == BLOCK_ON_ERROR_ENOSPC && d->flags == BLOCK_RDWR);
    options_clear(&o);
}

static void test_documented(void)
{
    for (const struct option_row *r = option_rows; r->name || r->help; r++) {
        g_assert_nonnull(r->help);
        for (const struct option_row *s = r + 1; r->name && (s->name || s->help); s++)
            g_assert_cmpstr(r->name, !=, s->name);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/options/bad", test_bad);
    g_test_add_func("/options/machine", test_machine);
    g_test_add_func("/options/disks", test_disks);
    g_test_add_func("/options/documented", test_documented);
    return g_test_run();
}
