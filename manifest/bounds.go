package manifest

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ckpt-io/ckpt/manifest/internal/pb"
)

// A small crafted manifest must not cost its reader much memory: neither by
// unpacking to a long body, nor by a body full of empty messages, of which
// each takes two bytes there and a hundred as a Go value. So both are bounded
// by the stored size. Honest manifests are far below, for the digests in them
// do not compress; one that is not is stored uncompressed.

// maxBody bounds the length of a body that was stored in n bytes.
func maxBody(n int) int64 { return 16<<20 + 64*int64(n) }

// maxElements bounds the messages and byte strings in a body stored in n bytes.
func maxElements(n int) int { return 1<<17 + n/4 }

// maxPartBody and maxPartElements are the same for one of many parts. An element
// takes two bytes at least, so a part that is stored uncompressed is always
// within them.
func maxPartBody(n int) int64   { return 4<<10 + 64*int64(n) }
func maxPartElements(n int) int { return 64 + n/2 }

// checkElements walks the body of a manifest without building anything.
func checkElements(body []byte, limit int) error {
	w := walker{left: limit}
	return w.message(body, (*pb.Manifest)(nil).ProtoReflect().Descriptor().Fields())
}

// checkPartElements does so with a Task.
func checkPartElements(body []byte, limit int) error {
	w := walker{left: limit}
	return w.message(body, (*pb.Task)(nil).ProtoReflect().Descriptor().Fields())
}

type walker struct{ left int }

func (w *walker) message(b []byte, fields protoreflect.FieldDescriptors) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		value := b[:n]
		b = b[n:]
		f := fields.ByNumber(num)
		if f == nil || typ != protowire.BytesType {
			continue
		}
		if err := w.element(value, f); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) element(value []byte, f protoreflect.FieldDescriptor) error {
	if w.left--; w.left < 0 {
		return fmt.Errorf("too many elements for its size")
	}
	if f.Kind() != protoreflect.MessageKind {
		return nil
	}
	content, n := protowire.ConsumeBytes(value)
	if n < 0 {
		return protowire.ParseError(n)
	}
	return w.message(content, f.Message().Fields())
}
