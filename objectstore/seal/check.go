package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ckpt-io/ckpt/objectstore"
)

// ErrNotEffective is Check's refusal of a store in which objects are not
// encrypted as they should be.
var ErrNotEffective = errors.New("encryption is not effective")

// checkText is what the check's object holds, many times over.
const checkText = "this text must not be found in the store. "

const checkCleanup = 10 * time.Second

// Check finds out by trying whether encryption is effective: it stores an
// object under a name that begins with prefix, looks at the stored bytes, which
// must not show the content, reads it back by the keys, and removes it. It
// fails with ErrNotEffective, or with an error of the store.
func (s *Store) Check(ctx context.Context, prefix string) error {
	if err := s.check(ctx, prefix+"seal-"+rand.Text()); err != nil {
		return fmt.Errorf("check encryption: %w", err)
	}
	return nil
}

func (s *Store) check(ctx context.Context, key string) (err error) {
	text := bytes.Repeat([]byte(checkText), 2*chunkSize/len(checkText))
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkCleanup)
		defer cancel()
		// Credentials that may not delete are a matter of objectstore.Probe.
		if derr := s.under.Delete(ctx, key); !errors.Is(derr, objectstore.ErrPermission) {
			err = errors.Join(err, derr)
		}
	}()
	_, err = s.putSealed(ctx, key, objectstore.Bytes(text), objectstore.PutOptions{})
	if err != nil && !errors.Is(err, objectstore.ErrUnknownOutcome) {
		return err
	}
	raw, _, err := objectstore.ReadAll(ctx, s.under, key, storedSize(int64(len(text))))
	if errors.Is(err, objectstore.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrNotEffective, err)
	}
	if err != nil {
		return err
	}
	if bytes.Contains(raw, []byte(checkText)) || !bytes.HasPrefix(raw, []byte(intro)) {
		return fmt.Errorf("%w: the store holds the content as it is", ErrNotEffective)
	}
	r, info, err := s.getSealed(ctx, key, 0, -1)
	if err != nil {
		return ineffective(err)
	}
	defer r.Close()
	back := make([]byte, len(text))
	if n, err := io.ReadFull(r, back); err != nil || info.Size != int64(len(text)) || !bytes.Equal(back[:n], text) {
		return ineffective(errors.Join(errors.New("what was stored is not what is read back"), err))
	}
	return nil
}

// ineffective tells keys that do not fit from a store that does not answer.
func ineffective(err error) error {
	if errors.Is(err, objectstore.ErrUnavailable) || errors.Is(err, objectstore.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotEffective, err)
}
