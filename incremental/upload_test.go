package incremental

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

var uploadName = manifest.DataName{ID: 1, Epoch: 1, Operator: "op", Ext: manifest.ExtSST}

func putFile(ctx context.Context, s objectstore.Store, content string) (manifest.Object, error) {
	return Uploader{s}.PutFile(ctx, uploadName.Key(), bytes.NewReader([]byte(content)), int64(len(content)))
}

// Whatever becomes of the answers, an upload that returns nil is there as it
// should be.
func TestPutFileOutcomes(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules []storetest.Rule
		puts  int
		err   error
	}{
		{"done", nil, 1, nil},
		{"answer lost", []storetest.Rule{{Op: storetest.Put, Nth: 1, Do: storetest.LoseAnswer()}}, 1, nil},
		{"request lost", []storetest.Rule{{Op: storetest.Put, Nth: 1, Do: storetest.LoseRequest()}}, 2, nil},
		{"lands after the second try", []storetest.Rule{{Op: storetest.Put, Nth: 1, Do: storetest.LandLater()}}, 2, nil},
		{"answer lost, and of the reading back too", []storetest.Rule{
			{Op: storetest.Put, Nth: 1, Do: storetest.LoseAnswer()},
			{Op: storetest.Get, Nth: 1, Do: storetest.LoseAnswer()},
		}, 2, nil},
		{"every request lost", []storetest.Rule{{Op: storetest.Put, Do: storetest.LoseRequest()}}, uploadTries, objectstore.ErrUnknownOutcome},
		{"refused", []storetest.Rule{{Op: storetest.Put, Do: storetest.Fail(objectstore.ErrPermission)}}, 1, objectstore.ErrPermission},
		{"full", []storetest.Rule{{Op: storetest.Put, Do: storetest.Fail(objectstore.ErrNoSpace)}}, 1, objectstore.ErrNoSpace},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := objectstore.NewMem()
				faulty := storetest.NewFaulty(mem, 1, c.rules...)
				o, err := putFile(t.Context(), faulty, "content")
				if !errors.Is(err, c.err) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				puts := 0
				for _, call := range faulty.Calls() {
					if call.Op == storetest.Put {
						puts++
						if !call.Options.IfAbsent {
							t.Error("a put that may overwrite")
						}
					}
				}
				if puts != c.puts {
					t.Errorf("%d puts, want %d", puts, c.puts)
				}
				faulty.Land(t.Context())
				if err == nil {
					if err := checkStored(t.Context(), mem, o); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestPutFileNeverOverwrites(t *testing.T) {
	mem := objectstore.NewMem()
	if _, err := putFile(t.Context(), mem, "somebody else's"); err != nil {
		t.Fatal(err)
	}
	if _, err := putFile(t.Context(), mem, "ours"); !errors.Is(err, ErrForeignObject) {
		t.Errorf("got %v, want ErrForeignObject", err)
	}
	if _, err := putFile(t.Context(), mem, "somebody else's"); err != nil {
		t.Errorf("the same content again: %v", err)
	}
	b, _, err := objectstore.ReadAll(t.Context(), mem, uploadName.Key(), 100)
	if err != nil || string(b) != "somebody else's" {
		t.Errorf("the object is %q, %v", b, err)
	}
}

func TestPutFileEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), uploadPause/2)
		defer cancel()
		faulty := storetest.NewFaulty(objectstore.NewMem(), 1, storetest.Rule{Op: storetest.Put, Do: storetest.LoseRequest()})
		_, err := putFile(ctx, faulty, "content")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objectstore.ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
	})
}

func TestPutFileShorterThanSaid(t *testing.T) {
	_, err := Uploader{objectstore.NewMem()}.PutFile(t.Context(), uploadName.Key(), bytes.NewReader([]byte("abc")), 4)
	if err == nil {
		t.Error("a file of 3 bytes was taken for one of 4")
	}
}
