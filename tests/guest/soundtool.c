/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plays or records through the kernel's own PCM interface (sound/asound.h), in a test guest.
 * usage: soundtool play DEVICE RATE FRAMES     samples that the test can make too, 16 bits stereo
 *        soundtool record DEVICE RATE FRAMES   says whether all was silence */
#include <fcntl.h>
#include <sound/asound.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static void only(struct snd_pcm_hw_params *p, int param, unsigned value)
{
    struct snd_mask *m = &p->masks[param - SNDRV_PCM_HW_PARAM_FIRST_MASK];
    memset(m, 0, sizeof(*m));
    m->bits[value / 32] = 1u << value % 32;
}

static void exactly(struct snd_pcm_hw_params *p, int param, unsigned value)
{
    p->intervals[param - SNDRV_PCM_HW_PARAM_FIRST_INTERVAL] = (struct snd_interval){ .min = value, .max = value, .integer = 1 };
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    static struct snd_pcm_hw_params p;
    static struct snd_pcm_sw_params s;
    static unsigned char data[4096 * 4];
    if (argc != 5)
        return 2;
    int play = !strcmp(argv[1], "play"), fd = open(argv[2], O_RDWR);
    unsigned rate = (unsigned)atoi(argv[3]), left = (unsigned)atoi(argv[4]), noise = 0;
    unsigned long long seed = 1;
    if (fd < 0)
        return fail(argv[2]);
    memset(p.masks, 0xff, sizeof(p.masks));
    for (unsigned i = 0; i < sizeof(p.intervals) / sizeof(p.intervals[0]); i++)
        p.intervals[i] = (struct snd_interval){ .max = ~0u };
    only(&p, SNDRV_PCM_HW_PARAM_ACCESS, SNDRV_PCM_ACCESS_RW_INTERLEAVED);
    only(&p, SNDRV_PCM_HW_PARAM_FORMAT, SNDRV_PCM_FORMAT_S16_LE);
    only(&p, SNDRV_PCM_HW_PARAM_SUBFORMAT, SNDRV_PCM_SUBFORMAT_STD);
    exactly(&p, SNDRV_PCM_HW_PARAM_CHANNELS, 2);
    exactly(&p, SNDRV_PCM_HW_PARAM_RATE, rate);
    exactly(&p, SNDRV_PCM_HW_PARAM_PERIOD_SIZE, 2048);
    exactly(&p, SNDRV_PCM_HW_PARAM_PERIODS, 8);
    p.rmask = ~0u;
    if (ioctl(fd, SNDRV_PCM_IOCTL_HW_PARAMS, &p) < 0)
        return fail("HW_PARAMS");
    s.period_step = 1;
    s.avail_min = 2048;
    s.start_threshold = play ? 8192 : 1;
    s.stop_threshold = 16384;
    s.boundary = 16384ul << 40;
    if (ioctl(fd, SNDRV_PCM_IOCTL_SW_PARAMS, &s) < 0 || ioctl(fd, SNDRV_PCM_IOCTL_PREPARE) < 0)
        return fail("PREPARE");
    while (left) {
        struct snd_xferi x = { .buf = data, .frames = left < 4096 ? left : 4096 };
        for (unsigned i = 0; play && i < x.frames * 4; i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            data[i] = (unsigned char)(seed >> 56);
        }
        if (ioctl(fd, play ? SNDRV_PCM_IOCTL_WRITEI_FRAMES : SNDRV_PCM_IOCTL_READI_FRAMES, &x) < 0)
            return fail("transfer");
        for (unsigned i = 0; !play && i < x.frames * 4; i++)
            noise |= data[i];
        left -= (unsigned)x.frames;
    }
    if (play && ioctl(fd, SNDRV_PCM_IOCTL_DRAIN) < 0)
        return fail("DRAIN");
    printf("VT %s%s\n", play ? "played" : "recorded", play ? "" : noise ? " noise" : " silence");
    return 0;
}
