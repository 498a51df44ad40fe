/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI devices: address, names, what the configuration space says (PCI Local Bus 3.0; PCI Express Base, 7.5.3). */
#include <stdio.h>
#include <string.h>

#include "nodedev.h"

enum { CAP_EXPRESS = 0x10, STATUS = 6, STATUS_CAPS = 0x10, CAP_LIST = 0x34, HEADER_TYPE = 0x0e };

/* ---- names: pci.ids, "vvvv  vendor" and below it "\tdddd  device" ---- */

static char *line_text(const char *line)
{
    size_t n = strcspn(line, "\n");
    return g_strstrip(g_strndup(line, n));
}

static void names(unsigned vendor, unsigned device, char **ret_vendor, char **ret_device)
{
    static const char *const files[] = { "/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids" };
    g_autofree char *text = NULL;
    char v[8], d[8];
    for (unsigned i = 0; !text && i < G_N_ELEMENTS(files); i++)
        (void)g_file_get_contents(files[i], &text, NULL, NULL);
    g_snprintf(v, sizeof(v), "\n%04x ", vendor);
    g_snprintf(d, sizeof(d), "\t%04x ", device);
    const char *at = text ? strstr(text, v) : NULL;
    if (!at)
        return;
    *ret_vendor = line_text(at + 6);
    for (at = strchr(at + 1, '\n'); at && (at[1] == '\t' || at[1] == '#'); at = strchr(at + 1, '\n')) {
        if (!strncmp(at + 1, d, 6)) {
            *ret_device = line_text(at + 7);
            return;
        }
    }
}

/* ---- what /sys says ---- */

static unsigned hex(struct udev_device *u, const char *attr)
{
    g_autofree char *text = nodedev_attr(u, attr);
    return text ? (unsigned)strtoul(text, NULL, 16) : 0;
}

bool nodedev_put_address(struct el *address, const char *text)
{
    unsigned domain, bus, slot, function;
    if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return false;
    el_setf(address, "@domain", "0x%04x", domain);
    el_setf(address, "@bus", "0x%02x", bus);
    el_setf(address, "@slot", "0x%02x", slot);
    el_setf(address, "@function", "0x%x", function);
    return true;
}

static char *link_name(const char *path, const char *name)
{
    g_autofree char *link = g_build_filename(path, name, NULL), *target = g_file_read_link(link, NULL);
    return target ? g_path_get_basename(target) : NULL;
}

static void put_virtual_functions(struct el *cap, struct udev_device *u)
{
    const char *path = udev_device_get_syspath(u);
    g_autofree char *physical = link_name(path, "physfn"), *total = nodedev_attr(u, "sriov_totalvfs");
    if (physical) {
        struct el *c = el_add(cap, "capability");
        el_set(c, "@type", "phys_function");
        nodedev_put_address(el_add(c, "address"), physical);
    }
    if (!total || !atoi(total))
        return;
    struct el *c = el_add(cap, "capability");
    el_set(c, "@type", "virt_functions");
    el_setf(c, "@maxCount", "%d", atoi(total));
    for (unsigned i = 0;; i++) {
        char name[32];
        g_snprintf(name, sizeof(name), "virtfn%u", i);
        g_autofree char *function = link_name(path, name);
        if (!function)
            break;
        nodedev_put_address(el_add(c, "address"), function);
    }
}

static int by_text(gconstpointer a, gconstpointer b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void put_iommu_group(struct el *cap, const char *path)
{
    g_autofree char *group = link_name(path, "iommu_group"), *list = g_build_filename(path, "iommu_group/devices", NULL);
    if (!group)
        return;
    struct el *e = el_add(cap, "iommuGroup");
    el_set(e, "@number", group);
    g_autoptr(GDir) dir = g_dir_open(list, 0, NULL);
    g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(g_free);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        g_ptr_array_add(all, g_strdup(name));
    g_ptr_array_sort(all, by_text);
    for (unsigned i = 0; i < all->len; i++)
        nodedev_put_address(el_add(e, "address"), all->pdata[i]);
}

/* ---- configuration space ---- */

static gsize read_config(struct udev_device *u, uint8_t *to, gsize size)
{
    g_autofree char *path = g_build_filename(udev_device_get_syspath(u), "config", NULL);
    FILE *f = fopen(path, "re");
    gsize n = f ? fread(to, 1, size, f) : 0;
    if (f)
        fclose(f);
    return n;
}

/* Offset of the Express capability; 0: none, or not readable (without privileges only the first 64 bytes are). */
static unsigned find_express(const uint8_t *c, gsize n)
{
    unsigned at = n > 64 && (c[STATUS] & STATUS_CAPS) ? c[CAP_LIST] & ~3u : 0;
    for (unsigned i = 0; i < 48 && at >= 64 && at + 20 <= n; i++) {
        if (c[at] == CAP_EXPRESS)
            return at;
        at = c[at + 1] & ~3u;
    }
    return 0;
}

static void put_link(struct el *express, const char *validity, int port, unsigned speed, unsigned width)
{
    static const char *const speeds[] = { NULL, "2.5", "5", "8", "16", "32", "64" };
    struct el *link = el_add(express, "link");
    el_set(link, "@validity", validity);
    if (port >= 0)
        el_setf(link, "@port", "%d", port);
    if (speed < G_N_ELEMENTS(speeds) && speeds[speed])
        el_set(link, "@speed", speeds[speed]);
    el_setf(link, "@width", "%u", width);
}

static void put_express(struct el *cap, struct udev_device *u)
{
    uint8_t c[257];
    gsize n = read_config(u, c, sizeof(c));
    unsigned at = find_express(c, n);
    if (!at && n <= 256) /* more than that is the extended space, which conventional PCI does not have */
        return;
    struct el *e = el_add(cap, "pci-express");
    unsigned type = at ? c[at + 2] >> 4 : 9;
    if (type == 9 || type == 10) /* inside the root complex: there is no link */
        return;
    uint32_t able = (uint32_t)c[at + 12] | (uint32_t)c[at + 13] << 8 | (uint32_t)c[at + 15] << 24;
    unsigned now = c[at + 18] | (unsigned)c[at + 19] << 8;
    put_link(e, "cap", (int)(able >> 24), able & 15, able >> 4 & 63);
    put_link(e, "sta", -1, now & 15, now >> 4 & 63);
}

static void put_bridge(struct el *cap, struct udev_device *u)
{
    uint8_t c[64];
    if (read_config(u, c, sizeof(c)) < sizeof(c) || !(c[HEADER_TYPE] & 3))
        return;
    el_set(el_add(cap, "capability"), "@type", (c[HEADER_TYPE] & 0x7f) == 1 ? "pci-bridge" : "cardbus-bridge");
}

uint32_t nodedev_pci_caps(struct udev_device *u)
{
    g_autofree char *types = g_build_filename(udev_device_get_syspath(u), "mdev_supported_types", NULL);
    return g_file_test(types, G_FILE_TEST_IS_DIR) ? 1u << NODEDEV_MDEV_TYPES : 0;
}

void nodedev_describe_pci(struct el *cap, struct udev_device *u)
{
    unsigned address[4] = { 0 }, vendor = hex(u, "vendor"), device = hex(u, "device");
    static const char *const parts[] = { "domain", "bus", "slot", "function" };
    g_autofree char *vendor_name = NULL, *device_name = NULL, *node = nodedev_attr(u, "numa_node");
    el_setf(cap, "class", "0x%06x", hex(u, "class"));
    if (sscanf(udev_device_get_sysname(u), "%x:%x:%x.%x", &address[0], &address[1], &address[2], &address[3]) == 4)
        for (unsigned i = 0; i < 4; i++)
            el_setf(cap, parts[i], "%u", address[i]);
    names(vendor, device, &vendor_name, &device_name);
    el_set(cap, "product", device_name ? device_name : "");
    el_setf(cap, "product/@id", "0x%04x", device);
    el_set(cap, "vendor", vendor_name ? vendor_name : "");
    el_setf(cap, "vendor/@id", "0x%04x", vendor);
    put_virtual_functions(cap, u);
    put_bridge(cap, u);
    put_iommu_group(cap, udev_device_get_syspath(u));
    if (node && atoi(node) >= 0)
        el_set(cap, "numa/@node", node);
    put_express(cap, u);
}
