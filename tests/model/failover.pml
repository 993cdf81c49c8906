/* The failover protocol as a model for spin: two sites that crash and restart, a tiebreaker, messages that
 * are delivered late, repeatedly or never. It is the table of common/failover/transition_table.h seen from
 * far away: GO(from, event, to) names a cell of that table and where it leads, and a unit test compares
 * the two both ways (tests/model/model_matches_table_test.cc), which lists with the reason what the table has
 * and this does not.
 *
 * Messages are not queued: everything ever sent stays sent. A request to the tiebreaker is a bit that may
 * be acted upon at any later time; an answer is a record, and any record up to the present one may be told
 * to anybody at any time; a log stream is what its writer has put into the epoch so far, and any part of it
 * may arrive; acknowledgements likewise. That is stronger than any loss, delay, repetition or reordering.
 *
 * The VM's history is the sequence of the epochs that wrote its entries (at most two), a byte: first entry in the
 * low three bits. R is what the outside world has seen. Checked in every state:
 *   - an output never contradicts R; nobody starts to run the VM without all of R, in memory or on disk
 *   - no two sites are free to let output go, and no two act as primary of one epoch
 * and, with -DCALM, when everything bad has stopped: the system comes to rest, and at rest the pair is
 * protected (`timeout`), within a bounded number of steps.
 *
 * tests/model/run checks it; with -DBUG_... a deliberate mistake, which must be caught.
 */
#ifndef EMAX
#define EMAX 4          /* epochs; at most 7 */
#endif
#ifndef IMAX
#define IMAX 1          /* restarts of each site; at most 2 */
#endif
#ifndef LMAX
#define LMAX 2          /* log entries; at most 2 */
#endif

/* The states, by the table's names. */
#define starting 0
#define paired_primary 1
#define paired_backup 2
#define asking_primary 3
#define asking_backup 4
#define going_live 5
#define solo 6
#define seeding 7
#define pairing 8
#define rejoining 9
#define switching_primary 10
#define switching_backup 11
#define halting 12
#define halted 13

#define GO(from, event, to) assert(st[me] == from); st[me] = to; \
    printf("%d e%d ", me, ep[me]); printf(#from); printf(" -> "); printf(#to); printf(" by "); \
    printf(#event); printf("\n")

/* Histories. */
#define LEN(v) ((v) == 0 -> 0 : ((v) < 8 -> 1 : 2))
#define PRE(v, k) ((k) >= LEN(v) -> (v) : ((k) == 0 -> 0 : (v) % 8))
#define ISP(a, b) ((a) == 0 || (a) == (b) || ((a) < 8 && (b) % 8 == (a)))
#define APPEND(v, e) ((v) == 0 -> (e) : (v) + 8 * (e))

/* A site. */
byte st[2], ep[2], inc[2], pi[2];      /* pi: the partner's incarnation */
byte c[2], ak[2], rel[2];              /* the log it holds; acknowledged; let go */
byte lv[2], de[2], d[2];               /* durable: last epoch in which the VM ran here, epoch; the disk */
bit cp[2], ran[2];                     /* durable: the disk has all of lv; the role was primary or solo */
byte mem[2];                           /* of a halted site: 0 nothing, 1 a primary's memory, 2 a follower's */
bit vm[2];                             /* the VM runs (or is paused) here */
bit loaded[2], pa[2], ho[2], sealed[2], insist[2], same[2], sa[2], duo[2], asked[2];

/* The tiebreaker: every record that there ever was. */
byte te;
byte mode[EMAX + 2];                   /* 1 paired, 2 solo */
bit hs[EMAX + 2];                      /* the holder's site */
byte hi[EMAX + 2], oi[EMAX + 2];       /* the holder's incarnation, the other member's */
#define BIT(i, n) (1 << ((i) * 4 + (n)))
byte acq, prq, rcl, swq;                /* asked of the present record; of older ones it does not matter */

/* What the sites have told each other. */
byte s[EMAX + 2];                      /* the stream of an epoch */
byte akd[(EMAX + 2) * 4];              /* how much of it an incarnation of the other site acknowledged */
byte sb[EMAX + 2], sc[EMAX + 2];       /* the seed of an epoch: for whom (0: nobody), of what */
byte ld[EMAX + 2];                     /* who has loaded it */
bit lived[EMAX + 2], begun[EMAX + 2], hov[EMAX + 2];

byte r;                                /* R */
bit calm;                              /* nothing bad happens any more */

#ifdef CALM
byte quiet;                            /* steps since */
#define STEP if :: calm -> quiet++; assert(quiet < 150) :: else fi
#define CHAOS_EPOCHS (EMAX - 4)        /* what it takes to recover needs epochs as well */
#else
#define STEP skip
#define CHAOS_EPOCHS EMAX
#endif

#ifdef BUG_NO_INCARNATIONS
#define SAME(one, other) 1
#else
#define SAME(one, other) ((one) == (other))
#endif
#define ME_IN(e) ((mode[e] == 2 && hs[e] == me && SAME(hi[e], inc[me])) || \
    (mode[e] == 1 && (hs[e] == me -> SAME(hi[e], inc[me]) : SAME(oi[e], inc[me]))))
#define HOLDS(e) (hs[e] == me && hi[e] == inc[me])
#define RUNS(i) (st[i] == paired_primary || st[i] == asking_primary || st[i] == solo || \
    st[i] == seeding || st[i] == pairing)
#define IDLE(i) (st[i] == starting || st[i] == halted)
/* An idle site that the record names, but with nothing that could run: an operator's case. */
#define UNUSABLE (IDLE(me) && mem[me] != 1 && !cp[me])
#ifdef BUG_RELEASE_WHILE_ASKING
#define OPEN(i) (st[i] == solo || st[i] == seeding || st[i] == asking_primary)
#else
#define OPEN(i) (st[i] == solo || st[i] == seeding)
#endif
#define ACKED(i) (st[i] == paired_primary || st[i] == asking_primary || st[i] == switching_primary || \
    (st[i] == pairing && sa[i]))
/* Once it is calm, a site resumes only with a partner that does; before, whatever it may believe. */
#define MAY_RESUME(one, other) (!calm || (ep[1 - me] == ep[me] && !REPLACED && \
    (st[1 - me] == one || st[1 - me] == other)))
#define REPLACED (pi[me] != inc[1 - me])

inline check() {
    assert(!(OPEN(0) && OPEN(1)));
    assert(!(RUNS(0) && RUNS(1) && ep[0] == ep[1]))
}

/* Epochs in which nobody stands any more tell nobody anything: fewer states to look at. */
inline forget() {
    i = 1;
    do
    :: i < ep[0] && i < ep[1] ->
        mode[i] = 0; hs[i] = 0; hi[i] = 0; oi[i] = 0; s[i] = 0; sb[i] = 0; sc[i] = 0; ld[i] = 0;
        lived[i] = 0; begun[i] = 0; hov[i] = 0;
        akd[i * 4] = 0; akd[i * 4 + 1] = 0; akd[i * 4 + 2] = 0; akd[i * 4 + 3] = 0; i++
    :: else -> break
    od;
    i = 0
}

/* Is beaten: someone acts in epoch x, or the record x is without us. */
inline stop_at(x) {
    ep[me] = x; sealed[me] = 0; ho[me] = 0; sb_clear(); forget();
    mem[me] = (vm[me] -> 1 : (c[me] != 0 || st[me] == paired_backup || st[me] == asking_backup ->
        2 : mem[me]));
    vm[me] = 0
}
inline sb_clear() { asked[me] = 0; loaded[me] = 0; pa[me] = 0; sa[me] = 0; same[me] = 0; insist[me] = 0 }

inline adopt(x) { ep[me] = x; de[me] = x; pa[me] = 0; same[me] = 0; asked[me] = 0; forget() }

inline record_granted(x) {
    if
    :: st[me] == paired_primary -> GO(paired_primary, record_granted, going_live)
    :: st[me] == asking_primary -> GO(asking_primary, record_granted, going_live)
    :: st[me] == solo -> GO(solo, record_granted, going_live)
    :: st[me] == seeding -> GO(seeding, record_granted, going_live)
    :: st[me] == pairing -> GO(pairing, record_granted, going_live)
    :: st[me] == paired_backup -> GO(paired_backup, record_granted, going_live)
    :: st[me] == asking_backup -> GO(asking_backup, record_granted, going_live)
    :: st[me] == switching_primary -> GO(switching_primary, record_granted, going_live)
    :: st[me] == switching_backup -> GO(switching_backup, record_granted, going_live)
    :: st[me] == halted -> GO(halted, record_granted, going_live)
    :: st[me] == starting -> GO(starting, record_granted, going_live)
    fi;
    ep[me] = x; sealed[me] = 0; duo[me] = 0; ho[me] = 0; sb_clear(); forget()
}

inline record_paired_primary(x) {
    if
    :: st[me] == pairing -> GO(pairing, record_paired_primary, paired_primary);
        adopt(x); lv[me] = x; ran[me] = 1; begun[x] = 1; lived[x] = 1; pi[me] = oi[x]; s[x] = c[me]
    :: st[me] == asking_primary -> /* stays: it had given up */
        adopt(x); lv[me] = x; ran[me] = 1; lived[x] = 1; pi[me] = oi[x]; s[x] = c[me]
    :: st[me] == solo -> GO(solo, record_paired_primary, asking_primary);
        adopt(x); lv[me] = x; ran[me] = 1; lived[x] = 1; pi[me] = oi[x]; s[x] = c[me]; insist[me] = 1
    :: st[me] == seeding -> GO(seeding, record_paired_primary, asking_primary);
        adopt(x); lv[me] = x; ran[me] = 1; lived[x] = 1; pi[me] = oi[x]; s[x] = c[me]; insist[me] = 1
    :: st[me] == switching_backup -> GO(switching_backup, record_paired_primary, going_live);
        ep[me] = x; sealed[me] = 0; duo[me] = 1; pi[me] = oi[x]; forget()
    :: st[me] == asking_backup -> GO(asking_backup, record_paired_primary, going_live);
        ep[me] = x; sealed[me] = 0; duo[me] = 1; pi[me] = oi[x]; forget()
    :: st[me] == paired_backup -> GO(paired_backup, record_paired_primary, going_live);
        ep[me] = x; sealed[me] = 0; duo[me] = 1; pi[me] = oi[x]; forget()
    :: else -> assert(0)
    fi
}

inline record_paired_backup(x) {
    if
    :: st[me] == rejoining && loaded[me] -> GO(rejoining, record_paired_backup, paired_backup);
        adopt(x); pi[me] = hi[x]; ran[me] = 0; sb_clear()
    :: st[me] == rejoining && !loaded[me] -> GO(rejoining, record_paired_backup, halting); stop_at(x)
    :: st[me] == switching_primary -> GO(switching_primary, record_paired_backup, paired_backup);
        adopt(x); pi[me] = hi[x]; ran[me] = 0; vm[me] = 0; ho[me] = 0; cp[me] = 0; sb_clear()
    :: st[me] == asking_primary && ho[me] -> GO(asking_primary, record_paired_backup, paired_backup);
        adopt(x); pi[me] = hi[x]; ran[me] = 0; vm[me] = 0; ho[me] = 0; cp[me] = 0; sb_clear()
    :: st[me] == asking_primary && !ho[me] -> GO(asking_primary, record_paired_backup, halting);
        stop_at(x)
    :: st[me] == halted -> GO(halted, record_paired_backup, halting); stop_at(x); crash()
    :: else -> assert(0)
    fi
}

inline record_lost(x) {
    if
    :: st[me] == starting || st[me] == halted || st[me] == rejoining -> adopt(x); loaded[me] = 0
    :: st[me] == paired_primary -> GO(paired_primary, record_lost, halting); stop_at(x)
    :: st[me] == paired_backup -> GO(paired_backup, record_lost, halting); stop_at(x)
    :: st[me] == asking_primary -> GO(asking_primary, record_lost, halting); stop_at(x)
    :: st[me] == asking_backup -> GO(asking_backup, record_lost, halting); stop_at(x)
    :: st[me] == going_live -> GO(going_live, record_lost, halting); stop_at(x)
    :: st[me] == solo -> GO(solo, record_lost, halting); stop_at(x)
    :: st[me] == seeding -> GO(seeding, record_lost, halting); stop_at(x)
    :: st[me] == pairing -> GO(pairing, record_lost, halting); stop_at(x)
    :: st[me] == switching_primary -> GO(switching_primary, record_lost, halting); stop_at(x)
    :: st[me] == switching_backup -> GO(switching_backup, record_lost, halting); stop_at(x)
    :: else -> assert(0)
    fi
}

/* The primary of an epoch that follows a switchover is no fence to the one who handed the VM over. */
#define FENCED(x) (st[me] == paired_primary || st[me] == paired_backup || st[me] == asking_backup || \
    st[me] == going_live || st[me] == switching_backup || (st[me] == asking_primary && !ho[me]) || \
    (st[me] == switching_primary && mode[x] == 2))
inline hello_fences(x) {
    if
    :: st[me] == paired_primary -> GO(paired_primary, hello_fences, halting); stop_at(x)
    :: st[me] == paired_backup -> GO(paired_backup, hello_fences, halting); stop_at(x)
    :: st[me] == asking_primary && !ho[me] -> GO(asking_primary, hello_fences, halting); stop_at(x)
    :: st[me] == asking_backup -> GO(asking_backup, hello_fences, halting); stop_at(x)
    :: st[me] == going_live -> GO(going_live, hello_fences, halting); stop_at(x)
    :: st[me] == switching_backup -> GO(switching_backup, hello_fences, halting); stop_at(x)
    :: st[me] == switching_primary && mode[x] == 2 ->
        GO(switching_primary, hello_fences, halting); stop_at(x)
    fi
}

/* The process dies, and another one starts. Written but unflushed data may go with it. */
inline crash() {
    printf("%d e%d crashes\n", me, ep[me]);
    st[me] = starting; inc[me]++; c[me] = 0; ak[me] = 0; rel[me] = 0; pi[me] = 0; mem[me] = 0; vm[me] = 0;
    ho[me] = 0; sealed[me] = 0; duo[me] = 0; sb_clear(); ep[me] = de[me];
    if
    :: !cp[me] && LEN(d[me]) > 0 -> d[me] = PRE(d[me], LEN(d[me]) - 1); ran[me] = 0 /* loses power */
    :: !cp[me] -> ran[me] = 0
    :: !cp[me] && ran[me] -> cp[me] = 1  /* only the process died: flushed at its start */
    :: cp[me] -> skip
    fi
}

proctype Site(bit me) {
    byte x, i;
    do
    /* ---- The VM ---- */
    :: atomic { !calm && RUNS(me) && !ho[me] && LEN(c[me]) < LMAX -> STEP;
        c[me] = APPEND(c[me], ep[me]); d[me] = c[me];
        if :: st[me] != solo && st[me] != seeding -> s[ep[me]] = c[me] :: else fi }
    :: atomic { rel[me] < LEN(c[me]) && (OPEN(me) || (ACKED(me) && rel[me] < ak[me])) -> STEP;
        x = PRE(c[me], rel[me] + 1);
        assert(ISP(x, r) || ISP(r, x));
        if :: LEN(x) > LEN(r) -> r = x :: else fi;
        rel[me]++; printf("%d releases %d, R %d\n", me, rel[me], r); x = 0 }

    /* ---- The log ---- */
    :: atomic { (st[me] == paired_backup || (st[me] == rejoining && loaded[me])) &&
        hs[ep[me]] != me && hi[ep[me]] == pi[me] && s[ep[me]] != c[me] && ISP(c[me], s[ep[me]]) -> STEP;
        c[me] = PRE(s[ep[me]], LEN(c[me]) + 1); printf("%d has %d\n", me, c[me]) }
    :: atomic { (st[me] == paired_backup || (st[me] == rejoining && loaded[me])) &&
        akd[ep[me] * 4 + inc[me]] < LEN(c[me]) -> STEP;
        akd[ep[me] * 4 + inc[me]] = LEN(c[me]); printf("%d acknowledges %d\n", me, LEN(c[me])) }
    :: atomic { ACKED(me) && akd[ep[me] * 4 + pi[me]] > ak[me] -> STEP;
        ak[me] = akd[ep[me] * 4 + pi[me]]; printf("%d hears ack %d\n", me, ak[me]) }
    :: atomic { (st[me] == paired_backup || st[me] == asking_backup || st[me] == switching_backup) &&
        d[me] != c[me] && ISP(d[me], c[me]) -> STEP; d[me] = PRE(c[me], LEN(d[me]) + 1) }

    /* ---- Losing the peer: at will, or, once it is calm, when it has restarted ---- */
    :: atomic { st[me] == paired_primary && !calm -> STEP;
        GO(paired_primary, peer_suspected, asking_primary) }
    :: atomic { st[me] == paired_primary && REPLACED -> STEP;
        GO(paired_primary, hello_replaced, asking_primary) }
    :: atomic { st[me] == paired_primary && !calm -> STEP;       /* it acknowledges nothing */
        GO(paired_primary, tick, asking_primary); insist[me] = 1 }
    :: atomic { st[me] == paired_primary && !REPLACED && ep[1 - me] <= ep[me] &&
        (st[1 - me] == halted || st[1 - me] == halting) -> STEP;
        GO(paired_primary, hello, asking_primary) }
    :: atomic { st[me] == paired_backup && !calm -> STEP;
        GO(paired_backup, peer_suspected, asking_backup) }
    :: atomic { st[me] == paired_backup && REPLACED -> STEP;
        GO(paired_backup, hello_replaced, asking_backup) }
    :: atomic { st[me] == switching_primary && !calm -> STEP;
        GO(switching_primary, peer_suspected, asking_primary); insist[me] = 1 }
    :: atomic { st[me] == switching_primary && REPLACED -> STEP;
        GO(switching_primary, hello_replaced, asking_primary); insist[me] = 1 }
    :: atomic { st[me] == switching_primary && st[1 - me] != switching_backup &&
        st[1 - me] != paired_backup -> STEP;
        GO(switching_primary, tick, asking_primary); insist[me] = 1 }
    :: atomic { st[me] == switching_backup && !calm -> STEP;
        GO(switching_backup, peer_suspected, asking_backup); insist[me] = 1 }
    :: atomic { st[me] == switching_backup && REPLACED -> STEP;
        GO(switching_backup, hello_replaced, asking_backup); insist[me] = 1 }

    /* ---- Asking ---- */
    :: atomic { (st[me] == asking_primary || st[me] == asking_backup) && de[me] == ep[me] &&
        !asked[me] -> STEP; asked[me] = 1;
        if :: te == ep[me] -> acq = acq | BIT(me, inc[me]) :: else fi }
    :: atomic { (st[me] == asking_primary || st[me] == asking_backup) && !same[me] && te == ep[me] &&
        mode[te] == 1 && ME_IN(te) -> STEP; same[me] = 1 }
    :: atomic { st[me] == asking_primary && same[me] && !insist[me] && !ho[me] && !pa[me] && !calm -> STEP;
        GO(asking_primary, record_same, paired_primary); begun[ep[me]] = 1 }
    :: atomic { st[me] == asking_backup && same[me] && !insist[me] &&
        MAY_RESUME(asking_primary, paired_primary) -> STEP;
        GO(asking_backup, record_same, paired_backup) }
    :: atomic { st[me] == asking_primary && !insist[me] && !ho[me] && !pa[me] && mode[ep[me]] == 1 &&
        !asked[me] && !calm -> STEP;
        GO(asking_primary, peer_trusted, paired_primary); begun[ep[me]] = 1 }
    :: atomic { st[me] == asking_backup && !insist[me] && !asked[me] && !calm -> STEP;
        GO(asking_backup, peer_trusted, paired_backup) }

    /* ---- The tiebreaker's records, the present one or an old one ---- */
    :: atomic { (ep[me] < te || (IDLE(me) && ep[me] == te && ME_IN(te))) && st[me] != halting &&
        !(st[me] == going_live && ME_IN(te)) && !(UNUSABLE && ME_IN(te) && mode[te] == 2) -> STEP;
        if
        :: x = te
        :: !calm && te > ep[me] + 1 && !(st[me] == going_live && ME_IN(te - 1)) &&
            !(UNUSABLE && ME_IN(te - 1) && mode[te - 1] == 2) -> x = te - 1
        fi;
        if
        :: ME_IN(x) && mode[x] == 2 && st[me] == rejoining ->
            GO(rejoining, record_granted, halting); stop_at(x)
        :: ME_IN(x) && mode[x] == 2 && st[me] != rejoining -> record_granted(x)
        :: ME_IN(x) && mode[x] == 1 && hs[x] == me -> record_paired_primary(x)
        :: ME_IN(x) && mode[x] == 1 && hs[x] != me -> record_paired_backup(x)
        :: !ME_IN(x) -> record_lost(x)
        fi; x = 0; check() }

    /* ---- Going live ---- */
    :: atomic { st[me] == going_live && !sealed[me] -> STEP;
        if
        :: vm[me] -> skip
        :: !vm[me] && mem[me] == 0 && c[me] == 0 && cp[me] -> c[me] = d[me]; rel[me] = 0
        :: !vm[me] && mem[me] == 1 -> skip
#ifdef BUG_LIVE_BEFORE_DRAINED
        :: else -> c[me] = d[me]; cp[me] = 0
#else
        :: else -> d[me] = c[me]; cp[me] = 0   /* the log is consumed */
#endif
        fi;
        lv[me] = ep[me]; de[me] = ep[me]; ran[me] = 1; sealed[me] = 1 }
    :: atomic { st[me] == going_live && sealed[me] -> STEP;
        assert(duo[me] || ISP(r, c[me]));   /* with a partner, its acknowledgements hold output back */
        vm[me] = 1; mem[me] = 0; lived[ep[me]] = 1; ak[me] = LEN(c[me]); s[ep[me]] = c[me];
        rel[me] = (rel[me] > LEN(c[me]) -> LEN(c[me]) : rel[me]);
        if
        :: duo[me] -> GO(going_live, persisted, paired_primary); begun[ep[me]] = 1
        :: !duo[me] -> GO(going_live, persisted, solo)
        fi;
        duo[me] = 0; sb_clear(); check() }
    :: atomic { RUNS(me) && !cp[me] && lv[me] == ep[me] -> STEP; cp[me] = 1 }  /* flushed */

    /* ---- Halting ---- */
    :: atomic { st[me] == halting -> STEP; de[me] = ep[me]; ran[me] = 0; GO(halting, persisted, halted) }
    :: atomic { ep[me] < EMAX && lived[ep[me] + 1] && !HOLDS(ep[me] + 1) && FENCED(ep[me] + 1) ->
        STEP; hello_fences(ep[me] + 1) }

    /* ---- Seeding: the solo side ---- */
    :: atomic { st[me] == solo && te < EMAX && st[1 - me] == rejoining && !loaded[1 - me] && ep[1 - me] <= ep[me] && cp[me] &&
        lv[me] == ep[me] -> STEP; GO(solo, join, seeding); pi[me] = inc[1 - me]; sb[ep[me]] = 0 }
    :: atomic { st[me] == seeding && !REPLACED -> STEP; GO(seeding, seed_ready, pairing);
        sb[ep[me]] = pi[me] + 1; sc[ep[me]] = c[me]; s[ep[me]] = c[me];
        ld[ep[me]] = 0; pa[me] = 0; sa[me] = 0; ak[me] = 0; check() }
    :: atomic { st[me] == pairing && !sa[me] && (ld[ep[me]] & (1 << pi[me])) -> STEP;
        sa[me] = 1; ak[me] = LEN(sc[ep[me]]) }
#ifdef BUG_PAIR_BEFORE_IN_SYNC
#define IN_SYNC 1
#else
#define IN_SYNC sa[me]
#endif
    :: atomic { st[me] == pairing && IN_SYNC && !pa[me] && te == ep[me] -> STEP;
        pa[me] = 1; prq = prq | (1 << pi[me]) }
    :: atomic { st[me] == seeding && !calm -> STEP; GO(seeding, peer_suspected, solo) }
    :: atomic { st[me] == seeding && REPLACED -> STEP; GO(seeding, hello_replaced, solo) }
    :: atomic { st[me] == seeding && !REPLACED && st[1 - me] == halted -> STEP;
        GO(seeding, hello, solo) }
    :: atomic { st[me] == pairing && !pa[me] && !calm -> STEP; GO(pairing, peer_suspected, solo); sa[me] = 0;
        sb[ep[me]] = 0; check() }
    :: atomic { st[me] == pairing && !pa[me] && REPLACED -> STEP; GO(pairing, hello_replaced, solo); sa[me] = 0;
        sb[ep[me]] = 0; check() }
    :: atomic { st[me] == pairing && !pa[me] && !REPLACED && st[1 - me] == halted -> STEP;
        GO(pairing, hello, solo); sa[me] = 0; sb[ep[me]] = 0; check() }
#ifdef BUG_ABANDON_PLAINLY
    :: atomic { st[me] == pairing && pa[me] && !calm -> STEP; GO(pairing, peer_suspected, solo); sa[me] = 0;
        sb[ep[me]] = 0; check() }
#else
    :: atomic { st[me] == pairing && pa[me] && !calm -> STEP; GO(pairing, peer_suspected, asking_primary);
        insist[me] = 1 }
#endif
    :: atomic { st[me] == pairing && pa[me] && REPLACED -> STEP; GO(pairing, hello_replaced, asking_primary);
        insist[me] = 1 }

    /* ---- Seeding: the new backup ---- */
    :: atomic { IDLE(me) && !(ep[me] == te && ME_IN(te)) && (RUNS(1 - me) &&
        (st[1 - me] == solo || st[1 - me] == seeding || st[1 - me] == pairing)) && ep[1 - me] >= ep[me] -> STEP;
        if
        :: st[me] == starting -> GO(starting, hello, rejoining)
        :: st[me] == halted -> GO(halted, hello, rejoining)
        fi;
        ep[me] = ep[1 - me]; de[me] = ep[me]; forget(); pi[me] = inc[1 - me]; cp[me] = 0; ran[me] = 0; loaded[me] = 0 }
    :: atomic { st[me] == rejoining && !loaded[me] && sb[ep[me]] == inc[me] + 1 && hi[ep[me]] == pi[me] -> STEP;
        c[me] = sc[ep[me]]; d[me] = c[me]; loaded[me] = 1; mem[me] = 0; cp[me] = 0;
        ld[ep[me]] = ld[ep[me]] | (1 << inc[me]) }
    :: atomic { st[me] == rejoining && loaded[me] && st[1 - me] == solo && ep[1 - me] == ep[me] &&
        !REPLACED -> STEP; loaded[me] = 0 }        /* it gave the attempt up */
    :: atomic { st[me] == rejoining && !loaded[me] && (!calm || REPLACED) -> STEP;
        if
        :: !REPLACED -> GO(rejoining, peer_suspected, halting)
        :: REPLACED -> GO(rejoining, hello_replaced, halting)
        fi; stop_at(ep[me]); mem[me] = 0 }
    :: atomic { st[me] == rejoining && loaded[me] && REPLACED && te == ep[me] -> STEP;
        GO(rejoining, record_same, halting); stop_at(ep[me]); mem[me] = 0; c[me] = 0 }
    :: atomic { ep[me] < EMAX && begun[ep[me] + 1] && mode[ep[me] + 1] == 1 && ME_IN(ep[me] + 1) &&
        hs[ep[me] + 1] != me &&
        ((st[me] == rejoining && loaded[me]) || st[me] == switching_primary ||
            (st[me] == asking_primary && ho[me])) -> STEP;
        x = ep[me] + 1;
        if
        :: st[me] == rejoining -> GO(rejoining, begin, paired_backup)
        :: st[me] == switching_primary -> GO(switching_primary, begin, paired_backup)
        :: st[me] == asking_primary -> GO(asking_primary, begin, paired_backup)
        fi;
        adopt(x); pi[me] = hi[x]; ran[me] = 0; vm[me] = 0; ho[me] = 0; cp[me] = 0; sb_clear(); x = 0 }

    /* ---- Switchover ---- */
    :: atomic { !calm && st[me] == paired_primary && te == ep[me] && te < EMAX -> STEP;
        GO(paired_primary, vm_paused, switching_primary); ho[me] = 1; hov[ep[me]] = 1 }
    :: atomic { st[me] == paired_backup && hov[ep[me]] && hs[ep[me]] != me && c[me] == s[ep[me]] -> STEP;
        GO(paired_backup, hand_over, switching_backup); d[me] = c[me];
        if :: te == ep[me] -> swq = swq | BIT(me, inc[me]) :: else fi }

#ifdef BUG_RECLAIM_ANY_COPY
#define NEWER 1
#else
#define NEWER (lv[me] > lv[1 - me])
#endif
    /* ---- Nobody is left: the newest copy takes the record over ---- */
    :: atomic { IDLE(me) && ep[me] == te && te < EMAX && !ME_IN(te) && !(rcl & BIT(me, inc[me])) &&
        (mem[me] == 1 || cp[me]) &&
        ((mode[te] == 2 && hs[te] == me && lv[me] == te) ||
         (IDLE(1 - me) && ep[1 - me] == te && NEWER &&
            !(mode[te] == 2 && hs[te] != me && hi[te] == inc[1 - me]) &&
            !(mode[te] == 1 && (hs[te] == me -> oi[te] == inc[1 - me] : hi[te] == inc[1 - me])))) -> STEP;
        rcl = rcl | BIT(me, inc[me]) }

    /* ---- Crashes ---- */
    :: atomic { !calm && inc[me] < IMAX -> STEP; crash(); check() }
    od
}

#define MOVES (te < CHAOS_EPOCHS || (calm && te < EMAX))
#define IS_MEMBER(m, n) ((mode[te] == 2 && hs[te] == m && SAME(hi[te], n)) || \
    (mode[te] == 1 && (hs[te] == m -> SAME(hi[te], n) : SAME(oi[te], n))))
#define NEXT(newmode, site, holder, other) te++; mode[te] = newmode; hs[te] = site; hi[te] = holder; \
    oi[te] = other; acq = 0; prq = 0; rcl = 0; swq = 0; forget(); \
    printf("T: epoch %d mode %d holder %d#%d\n", te, newmode, site, holder)
#define DECIDE(m, n) \
    :: atomic { MOVES && (acq & BIT(m, n)) && IS_MEMBER(m, n) -> STEP; NEXT(2, m, n, 0) } \
    :: atomic { MOVES && (rcl & BIT(m, n)) -> STEP; NEXT(2, m, n, 0) } \
    :: atomic { MOVES && mode[te] == 1 && hs[te] != m && oi[te] == n && (swq & BIT(m, n)) -> STEP; \
        k = hi[te]; NEXT(1, m, n, k); k = 0 } \
    :: atomic { MOVES && mode[te] == 2 && hs[te] != m && (prq & (1 << n)) -> STEP; \
        k = hi[te]; NEXT(1, hs[te - 1], k, n); k = 0 }

proctype Tiebreaker() {
    byte i, k;
    do
    DECIDE(0, 0)
    DECIDE(1, 0)
#if IMAX > 0
    DECIDE(0, 1)
    DECIDE(1, 1)
#endif
#if IMAX > 0   /* a process may also end by itself, see record_paired_backup */
    DECIDE(0, 2)
    DECIDE(1, 2)
#endif
#if IMAX > 1
    DECIDE(0, 3)
    DECIDE(1, 3)
#endif
    od
}

#ifdef CALM
#define PROTECTED ((st[0] == paired_primary && st[1] == paired_backup || \
    st[1] == paired_primary && st[0] == paired_backup) && ep[0] == ep[1] && te == ep[0])
/* Both have died, and the newest copy may lack what a loss of power took: an operator decides. */
#define NEWEST (lv[0] > lv[1] -> 0 : 1)
#define OPERATOR (IDLE(0) && IDLE(1) && mem[NEWEST] != 1 && !cp[NEWEST])

proctype Quiet() {
    atomic { te <= CHAOS_EPOCHS -> calm = 1 };
    timeout -> assert(PROTECTED || OPERATOR)
}
#endif

init {
    atomic {
        te = 1; mode[1] = 1; hs[1] = 0; hi[1] = 0; oi[1] = 0;
        st[0] = paired_primary; ep[0] = 1; de[0] = 1; lv[0] = 1; cp[0] = 1; ran[0] = 1; vm[0] = 1;
        st[1] = paired_backup; ep[1] = 1; de[1] = 1; lived[1] = 1; begun[1] = 1;
        run Site(0); run Site(1); run Tiebreaker();
#ifdef CALM
        run Quiet()
#endif
    }
}
