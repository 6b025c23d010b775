package objectstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ETagUnquoter is a Store that can send the ETag of a condition with or
// without its quotes. Some servers compare it only without them; [Probe]
// finds out and tells.
type ETagUnquoter interface {
	// UnquoteETags chooses the spelling for all later Puts and reports
	// whether the store has such a choice.
	UnquoteETags(unquoted bool) bool
}

func unquoteETags(s Store, unquoted bool) bool {
	u, ok := s.(ETagUnquoter)
	return ok && u.UnquoteETags(unquoted)
}

// Capabilities is what Probe found out about a store that is safe to commit
// on.
type Capabilities struct {
	// UnquotedETags says that the store compares ETags only without quotes;
	// the Store has been told.
	UnquotedETags bool
	// DeleteDenied says that the credentials may not delete. Retention will
	// not work with them, and the probe's objects stay.
	DeleteDenied bool
}

const (
	probeRacers  = 8
	probeTries   = 5 // of a Put whose outcome was unknown
	probeCleanup = 10 * time.Second
)

// Probe finds out by trying whether a store keeps to the conditions of a Put,
// as every commit needs (rule R4): a second create must be refused, a right
// If-Match must succeed and a stale one fail, and of eight writers at once
// exactly one may win. A store that fails a check is refused with
// [ErrConditionsIgnored] and the name of the check; a store that cannot be
// reached or written gives its own error.
//
// It takes about 30 requests on keys that begin with prefix followed by a
// nonce, and removes those objects again.
func Probe(ctx context.Context, s Store, prefix string) (Capabilities, error) {
	p := &prober{store: s, key: prefix + rand.Text()}
	err := p.run(ctx)
	if err == nil {
		err = p.cleanUp(ctx)
	} else if cleanErr := p.cleanUp(ctx); cleanErr != nil && !errors.Is(err, ErrConditionsIgnored) {
		err = fmt.Errorf("%w; clean up: %w", err, cleanErr)
	}
	if err != nil {
		return Capabilities{}, fmt.Errorf("probe store: %w", err)
	}
	return p.found, nil
}

type prober struct {
	store Store
	key   string
	found Capabilities
}

func (p *prober) run(ctx context.Context) error {
	first, err := p.checkCreate(ctx)
	if err != nil {
		return err
	}
	if err := p.checkMatch(ctx, first); err != nil {
		return err
	}
	if err := p.race(ctx, "race to create", PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	_, info, err := ReadAll(ctx, p.store, p.raceKey(), 1<<10)
	if err != nil {
		return err
	}
	return p.race(ctx, "race to replace", PutOptions{IfMatch: info.ETag})
}

// checkCreate creates the object twice and returns its ETag.
func (p *prober) checkCreate(ctx context.Context) (etag string, err error) {
	switch done, err := p.put(ctx, p.key, "first", PutOptions{IfAbsent: true}); {
	case err != nil:
		return "", err
	case !done:
		return "", refuse("it refused to create a new object as if that existed")
	}
	switch done, err := p.put(ctx, p.key, "second", PutOptions{IfAbsent: true}); {
	case err != nil:
		return "", err
	case done:
		return "", refuse("it created an object that existed")
	}
	b, info, err := ReadAll(ctx, p.store, p.key, 1<<10)
	if err != nil {
		return "", err
	}
	if string(b) != "first" {
		return "", refuse("it refused to create an object that existed, but overwrote it")
	}
	return info.ETag, nil
}

// checkMatch replaces the object by its ETag, then by that old one.
func (p *prober) checkMatch(ctx context.Context, etag string) error {
	match := PutOptions{IfMatch: etag}
	done, err := p.put(ctx, p.key, "third", match)
	if err == nil && !done && unquoteETags(p.store, true) {
		done, err = p.put(ctx, p.key, "third", match)
		p.found.UnquotedETags = done
		if !done {
			unquoteETags(p.store, false)
		}
	}
	switch {
	case err != nil:
		return err
	case !done:
		return refuse("it refused to replace an object by its right ETag")
	}
	switch done, err := p.put(ctx, p.key, "fourth", match); {
	case err != nil:
		return err
	case done:
		return refuse("it replaced an object by a stale ETag")
	}
	switch done, err := p.put(ctx, p.key+"-absent", "fifth", match); {
	case err != nil:
		return err
	case done:
		return refuse("it replaced an object that does not exist")
	}
	return nil
}

func (p *prober) raceKey() string { return p.key + "-race" }

// race lets several writers do the same conditional Put at once.
func (p *prober) race(ctx context.Context, name string, opts PutOptions) error {
	var won [probeRacers]bool
	var errs [probeRacers]error
	var wg sync.WaitGroup
	for i := range probeRacers {
		wg.Go(func() {
			won[i], errs[i] = p.put(ctx, p.raceKey(), fmt.Sprint(name, " ", i), opts)
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	winners, winner := 0, ""
	for i, w := range won {
		if w {
			winners++
			winner = fmt.Sprint(name, " ", i)
		}
	}
	if winners != 1 {
		return refuse(fmt.Sprintf("in a %s by %d writers it let %d win", name, probeRacers, winners))
	}
	b, _, err := ReadAll(ctx, p.store, p.raceKey(), 1<<10)
	if err == nil && string(b) != winner {
		err = refuse(fmt.Sprintf("after a %s it held what a loser wrote", name))
	}
	return err
}

// put reports whether the write was done or refused. It settles an unknown
// outcome by reading back; nobody else writes other bodies over ours than
// those who then lose the race by it.
func (p *prober) put(ctx context.Context, key, body string, opts PutOptions) (done bool, err error) {
	for range probeTries {
		_, err = p.store.Put(ctx, key, Bytes([]byte(body)), opts)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, ErrPrecondition):
			return false, nil
		case !errors.Is(err, ErrUnknownOutcome):
			return false, err
		}
		b, _, readErr := ReadAll(ctx, p.store, key, 1<<10)
		if readErr == nil && string(b) == body {
			return true, nil
		}
		if readErr != nil && !errors.Is(readErr, ErrNotExist) {
			return false, errors.Join(err, readErr)
		}
	}
	return false, err
}

// cleanUp removes the probe's objects, also when the caller gave up.
func (p *prober) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanup)
	defer cancel()
	err := p.store.Delete(ctx, p.key, p.key+"-absent", p.raceKey())
	if errors.Is(err, ErrPermission) {
		p.found.DeleteDenied = true
		return nil
	}
	return err
}

func refuse(why string) error {
	return fmt.Errorf("%w: %s; two jobs could overwrite each other's checkpoints on it", ErrConditionsIgnored, why)
}
