/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One row per option. */
#include <string.h>

#include "base/error.h"
#include "vmm/core/machine.h"
#include "vmm/options.h"

/* ---- generic handlers ---- */

static bool opt_text(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    char **field = (char **)((char *)o + row->offset);
    g_free(*field);
    *field = g_strdup(arg);
    return true;
}

static bool opt_flag(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    *(bool *)((char *)o + row->offset) = true;
    return true;
}

static bool opt_config_text(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    char **field = (char **)((char *)o->config + row->offset);
    g_free(*field);
    *field = g_strdup(arg);
    return true;
}

static bool opt_config_flag(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    *(bool *)((char *)o->config + row->offset) = true;
    return true;
}

static bool opt_nothing(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    return true;
}

static bool opt_refuse(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "not available: %s", row->help);
}

/* Only some values do nothing; the others need what is not there. */
static bool opt_accept_only(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (g_strv_contains(row->accepted, arg))
        return true;
    g_autofree char *all = g_strjoinv(", ", (char **)row->accepted);
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "not available: %s; accepted: %s", row->help, all);
}

static bool opt_vnc(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (!strcmp(arg, "off")) {
        g_clear_pointer(&o->vnc, g_free);
    } else if (o->vnc && strcmp(o->vnc, arg)) {
        return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is one VNC server a machine, and -vnc %s was given already", o->vnc);
    } else {
        g_free(o->vnc);
        o->vnc = g_strdup(arg);
    }
    o->display_none = true;
    return true;
}

static bool opt_display(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    o->display_none = true;
    if (g_str_has_prefix(arg, "vnc="))
        return opt_vnc(o, row, arg + strlen("vnc="), error);
    return !strcmp(arg, "none") || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "not available: there are no windows; accepted: none, vnc=HOST:NUMBER");
}

static bool opt_keyboard(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    return !strcmp(arg, "en-us") || vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "not available: viewers that send scan codes (virt-viewer, TigerVNC) need no layout; of "
                                               "others a US keyboard is assumed; accepted: en-us");
}

static bool opt_one_of(struct options *o, const struct option_row *row, const char *arg, GError **error)
{
    if (g_strv_contains(row->accepted, arg))
        return opt_text(o, row, arg, error);
    g_autofree char *all = g_strjoinv(", ", (char **)row->accepted);
    return vireo_fail(error, VIREO_ERROR_UNSUPPORTED, "there is no such card; accepted: %s", all);
}

bool option_refused(const struct option_row *row)
{
    return row->handle == opt_refuse;
}

static const char *const none[] = { "none", NULL };
static const char *const cards[] = { "std", "virtio", "none", NULL };

#define OPTION(member) offsetof(struct options, member)
#define CONFIG(member) offsetof(struct machine_config, member)
#define HEADING(text) { NULL, NULL, text }
#define REFUSE(name, args, why) { name, args, why, opt_refuse }

const struct option_row option_rows[] = {
    HEADING("Information"),
    { "h", NULL, "print this help and exit", opt_help },
    { "help", NULL, "the same", opt_help },
    { "help=man", NULL, "print the manual page in roff and exit", opt_help },
    { "version", NULL, "print the version and exit", opt_version },

    HEADING("The machine"),
    { "machine", "[type=]NAME[,accel=NAME][,kernel=FILE][,initrd=FILE][,append=TEXT][,linux-entry=auto|16|32|64]", "board: q35 (default) or microvm; 'help' lists them",
      opt_machine },
    { "M", "NAME[,...]", "the same", opt_machine },
    { "accel", "kvm|jit|auto[,kernel-irqchip=on|split|off][,dirty-ring-size=N][,device=FILE]",
      "what runs the guest's code; given several times, the first that works; 'help' lists the accelerators", opt_accel },
    { "enable-kvm", NULL, "the same as -accel kvm", opt_enable_kvm },
    { "cpu", "MODEL[,+FEATURE][,-FEATURE]", "CPU model (default max); 'help' lists models and features", opt_cpu },
    { "smp", "[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]", "number of vCPUs (default 1) and how they are grouped", opt_smp },
    { "m", "[size=]SIZE[,slots=N][,maxmem=SIZE]", "memory in MiB, or with a suffix K, M, G, T (default 128M); room for memory that is plugged later", opt_memory },
    { "numa", "node[,nodeid=N][,cpus=A-B]...[,memdev=ID][,mem=SIZE] or dist,src=N,dst=N,val=D or cpu,node-id=N,socket-id=N,...",
      "NUMA nodes that the guest sees: their vCPUs and memory, distances between them", opt_numa },
    { "mem-path", "PATH", "the memory is a file in this directory (a hugetlbfs: huge pages), or this file", opt_config_text, CONFIG(mem_path) },
    { "mem-prealloc", NULL, "take all memory at the start instead of as it is used", opt_config_flag, CONFIG(mem_prealloc) },
    { "name", "[guest=]NAME[,process=NAME]", "name of the machine, shown by QMP; process: name of the process", opt_name },
    { "uuid", "UUID", "identity of the machine, shown by QMP and the firmware tables", opt_uuid },
    { "rtc", "[base=utc|localtime|DATE][,clock=host]", "what the clock of the machine shows at the start", opt_rtc },
    { "boot", "[order=c][,menu=off][,strict=on|off]", "accepted where it asks for what happens anyway: the kernel of -kernel is started", opt_boot },
    { "action", "[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=shutdown]", "what happens on these events", opt_action },
    { "no-reboot", NULL, "a reset by the guest ends the machine", opt_config_flag, CONFIG(no_reboot) },
    { "no-shutdown", NULL, "a shutdown by the guest stops the machine, the process stays for QMP", opt_config_flag, CONFIG(no_shutdown) },
    { "S", NULL, "do not start the vCPUs; QMP 'cont' does", opt_config_flag, CONFIG(start_paused) },
    { "nodefaults", NULL, "no serial port and no network card that were not asked for", opt_config_flag, CONFIG(nodefaults) },
    { "no-user-config", NULL, "accepted: there are no configuration files", opt_nothing },

    HEADING("What it starts"),
    { "kernel", "FILE", "Linux (bzImage), PVH ELF or multiboot kernel", opt_config_text, CONFIG(kernel) },
    { "initrd", "FILE", "initial RAM disk of the kernel", opt_config_text, CONFIG(initrd) },
    { "append", "TEXT", "command line of the kernel", opt_config_text, CONFIG(append) },
    { "smbios", "type=0|1|2|3|11[,KEY=TEXT]...", "texts in the SMBIOS tables of BIOS (0), system (1), board (2) and chassis (3), as manufacturer=, product=, serial=; value=: any texts (11)",
      opt_smbios },
    { "bios", "FILE", "firmware; default: SeaBIOS, when there is no -kernel", opt_config_text, CONFIG(bios) },
    REFUSE("pflash", "FILE", "there is no flash memory; firmware is -bios FILE"),
    REFUSE("option-rom", "FILE", "give it to a device with romfile="),
    REFUSE("dtb", "FILE", "PC machines have no device tree"),
    REFUSE("fw_cfg", "...", "there is no way yet to add firmware configuration files"),
    REFUSE("acpitable", "...", "the ACPI tables cannot be changed yet"),
    REFUSE("no-acpi", NULL, "the machine always has ACPI tables; give the kernel acpi=off with -append"),
    { "no-hpet", NULL, "the same as -machine hpet=off", opt_no_hpet },

    HEADING("Disks"),
    { "drive", "file=FILE,format=FORMAT,if=ide|scsi|virtio|none[,media=disk|cdrom][,id=ID][,readonly=on][,snapshot=on][,cache=MODE][,werror=ACTION][,rerror=ACTION][,...]",
      "a disk image; if=ide (the default on q35) adds a SATA disk or CD-ROM, if=scsi a SCSI disk with its virtio controller, if=virtio a virtio disk, if=none leaves that to -device NAME,drive=ID", opt_drive },
    { "blockdev", "driver=DRIVER,node-name=ID[,file=NODE][,backing=NODE][,...] or JSON", "a disk image for -device, by node", opt_blockdev },
    { "hda", "FILE", "the same as -drive if=ide,index=0,media=disk,file=FILE: the disk at the first SATA port", opt_hd },
    { "hdb", "FILE", "at the second port", opt_hd },
    { "hdc", "FILE", "at the third port", opt_hd },
    { "hdd", "FILE", "at the fourth port", opt_hd },
    { "cdrom", "FILE", "the same as -drive if=ide,index=2,media=cdrom,file=FILE: a CD-ROM at the third port", opt_hd },
    REFUSE("fda", "FILE", "there is no floppy drive"),
    REFUSE("fdb", "FILE", "there is no floppy drive"),
    REFUSE("sd", "FILE", "there is no SD card reader"),
    { "snapshot", NULL, "what guests write to the disks of -drive goes to temporary files that end with the machine", opt_flag, OPTION(snapshot) },
    REFUSE("fsdev", "...", "shared folders are not there yet"),
    REFUSE("virtfs", "...", "shared folders are not there yet"),

    HEADING("Devices and back ends"),
    { "device", "NAME[,PROPERTY=VALUE]... or JSON", "adds a device; 'help' lists them, 'NAME,help' its properties", opt_device },
    { "chardev", "BACKEND,id=ID[,KEY=VALUE]...", "a character back end: null, stdio, file, socket, pty", opt_chardev },
    { "serial", "stdio|mon:stdio|null|none|pty|file:FILE|unix:PATH[,server=on][,wait=off]|tcp:HOST:PORT[,...]|telnet:HOST:PORT[,...]|chardev:ID", "the next serial port (COM1 to COM4)",
      opt_serial },
    { "netdev", "user|tap|bridge|socket|stream|dgram,id=ID[,KEY=VALUE]...", "a network back end", opt_netdev },
    { "nic", "TYPE[,model=virtio-net-pci or e1000e, e1000, rtl8139][,mac=ADDRESS][,KEY=VALUE]... or none", "a network card with its back end; none: no default card", opt_nic },
    { "net", "none", "no default network card", opt_net },
    { "object", "TYPE,id=ID[,PROPERTY=VALUE]... or JSON", "makes a back end: memory, random numbers, I/O threads; 'help' lists the types, 'TYPE,help' their properties",
      opt_object },
    { "global", "DRIVER.PROPERTY=VALUE", "a property of all devices of this driver, where -device does not say otherwise", opt_global },
    REFUSE("set", "...", "set the property at the -device instead"),
    { "parallel", "none", "there is no parallel port", opt_accept_only, 0, none },
    { "usb", NULL, "adds a USB controller: an xHCI (qemu-xhci), where QEMU has UHCI and EHCI; its bus is 'usb-bus.0'", opt_flag, OPTION(usb) },
    { "usbdevice", "tablet|mouse|keyboard", "the same, and the device: -device usb-tablet, usb-mouse, usb-kbd", opt_usbdevice },
    { "audiodev", "none,id=ID or wav,id=ID[,path=FILE]", "where the sound of a device with audiodev=ID goes: nowhere, or into a WAV file", opt_audiodev },
    REFUSE("audio", "...", "use -audiodev none,id=ID with -device ich9-intel-hda -device hda-duplex,audiodev=ID"),
    REFUSE("tpmdev", "...", "there is no TPM yet"),
    REFUSE("watchdog", "NAME", "there is no watchdog yet"),

    HEADING("Display"),
    { "nographic", NULL, "no display; the first serial port is this terminal, Ctrl-A x ends, Ctrl-A h helps", opt_flag, OPTION(nographic) },
    { "display", "none|vnc=HOST:NUMBER[,...]", "no window; vnc: the same as -vnc", opt_display },
    { "vga", "std|virtio|none", "a graphics card: the same as -device VGA, or virtio-vga", opt_one_of, OPTION(vga), cards },
    { "vnc", "HOST:NUMBER|unix:PATH|none[,password=on|off][,password-secret=ID][,to=NUMBER][,share=allow-exclusive|ignore] or off",
      "a VNC server on this address, port 5900 + NUMBER; without HOST on all addresses; none: viewers come by QMP's add_client alone", opt_vnc },
    REFUSE("spice", "...", "SPICE is not there; use -nographic"),
    REFUSE("sdl", NULL, "there are no windows; use -vnc or -nographic"),
    REFUSE("full-screen", NULL, "there are no windows; use -vnc or -nographic"),
    { "k", "en-us", "accepted: viewers send scan codes, or what a US keyboard has", opt_keyboard },

    HEADING("Control"),
    { "qmp", "stdio|unix:PATH[,server=on][,wait=off]|tcp:HOST:PORT[,server=on][,wait=off]|chardev:ID", "control protocol, as JSON", opt_qmp },
    { "qmp-pretty", "...", "the same with indented output", opt_qmp },
    { "mon", "[chardev=]ID,mode=control[,pretty=on|off]", "control protocol on a -chardev", opt_mon },
    { "monitor", "none", "there is no monitor for humans yet; use -qmp", opt_accept_only, 0, none },
    { "pidfile", "FILE", "write the process id there; removed at the end", opt_text, OPTION(pidfile) },
    { "daemonize", NULL, "go to the background when everything has been opened", opt_flag, OPTION(daemonize) },
    { "sandbox", "on|off[,files=auto|on|off][,obsolete=deny][,elevateprivileges=deny][,spawn=deny][,resourcecontrol=deny]",
      "only the system calls that each thread needs, no capabilities, no new privileges", opt_sandbox },
    { "run-with", "[user=NAME|UID:GID][,chroot=DIRECTORY]", "when all is open: the user and the root directory of the process", opt_run_with },
    { "runas", "NAME|UID:GID", "the same as -run-with user=", opt_run_with },
    { "chroot", "DIRECTORY", "the same as -run-with chroot=", opt_run_with },
    { "add-fd", "fd=N,set=M[,opaque=TEXT]", "puts the inherited descriptor N into set M: the file /dev/fdset/M", opt_add_fd },
    { "overcommit", "[mem-lock=on|off][,cpu-pm=off]", "mem-lock=on: all memory of the process stays in RAM", opt_overcommit },
    { "incoming", "fd:N|unix:PATH|tcp:[HOST]:PORT|exec:COMMAND|defer", "the machine is one that was saved or migrates here; defer: QMP migrate-incoming says from where",
      opt_incoming },
    { "loadvm", "NAME", "the machine goes on from this snapshot in its disks' images", opt_text, offsetof(struct options, loadvm) },
    { "only-migratable", NULL, "a device that cannot be saved or migrated is an error at start", opt_flag, OPTION(only_migratable) },
    REFUSE("readconfig", "FILE", "configuration files are not there; give the options on the command line"),
    REFUSE("preconfig", NULL, "use -S"),
    REFUSE("compat", "...", "there are no deprecated interfaces to choose about"),

    HEADING("Debugging"),
    { "d", "ITEM[,ITEM]...", "write a log of these to standard error; 'help' lists them", opt_log },
    { "D", "FILE", "write the log of -d to this file", opt_text, OPTION(log_file) },
    REFUSE("s", NULL, "there is no gdb server yet"),
    REFUSE("gdb", "DEVICE", "there is no gdb server yet"),
    REFUSE("icount", "...", "the clock follows the host"),
    REFUSE("trace", "...", "use -d; -d help lists what there is"),
    { "msg", "timestamp=on|off", "messages on standard error begin with the time", opt_msg },
    REFUSE("singlestep", NULL, "the translator has no such mode"),
    REFUSE("plugin", "...", "there are no plugins"),
    REFUSE("debugcon", "DEVICE", "use -chardev and -device isa-debugcon,chardev=ID"),
    REFUSE("L", "PATH", "firmware is looked for in /usr/share/seabios; give another with -bios FILE"),
    REFUSE("no-fd-bootchk", NULL, "there is no floppy drive to start from"),
    REFUSE("mtdblock", "FILE", "there is no flash memory"),
    REFUSE("iscsi", "...", "disks over iSCSI are not there; let the host attach the disk and give its block device"),
    REFUSE("portrait", NULL, "there are no windows"),
    REFUSE("rotate", "DEGREES", "there are no windows"),
    REFUSE("audio-help", NULL, "use -audiodev help"),
    REFUSE("watchdog-action", "ACTION", "there is no watchdog yet"),
    REFUSE("echr", "CHARACTER", "the escape character of the terminal is Ctrl-A"),
    REFUSE("dfilter", "...", "-d cannot be limited to addresses yet"),
    REFUSE("seed", "NUMBER", "nothing here draws from a generator that could be seeded"),
    REFUSE("dump-vmstate", "FILE", "saved states are not there yet"),
    REFUSE("async-teardown", NULL, "memory is given back as the process ends"),
    REFUSE("enable-sync-profile", NULL, "locks are not profiled; use perf"),
    REFUSE("win2k-hack", NULL, "there is no IDE controller; disks are SATA"),
    REFUSE("xen-attach", NULL, "there is no accelerator Xen"),
    REFUSE("xen-domid", "ID", "there is no accelerator Xen"),
    REFUSE("xen-domid-restrict", NULL, "there is no accelerator Xen"),
    { NULL, NULL, NULL }
};
