package filesink

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/ckpt-io/ckpt/manifest"
)

// pendingDir holds what is not committed.
const pendingDir = ".pending"

// partName is the name of committed output: that of one subtask since the
// checkpoint before. Both numbers are plain decimals.
func partName(subtask int, id manifest.ID) string {
	return fmt.Sprintf("part-%d-%d", subtask, uint64(id))
}

// parsePartName reads what partName wrote.
func parsePartName(name string) (subtask int, id manifest.ID, err error) {
	fields := strings.Split(name, "-")
	if len(fields) == 3 && fields[0] == "part" {
		subtask, _ = strconv.Atoi(fields[1])
		n, _ := strconv.ParseUint(fields[2], 10, 64)
		id = manifest.ID(n)
		// One name, one spelling.
		if subtask >= 0 && id > 0 && partName(subtask, id) == name {
			return subtask, id, nil
		}
	}
	return 0, 0, fmt.Errorf("parse part name %q: not part-<subtask>-<checkpoint>", name)
}

// pendingName is the name of the nth file, from 0, that a subtask writes in an
// epoch. The checkpoint it will belong to is not known when it is begun.
func pendingName(epoch manifest.Epoch, subtask, n int) string {
	return fmt.Sprintf("%s-%d-%d", epoch, subtask, n)
}

// parsePendingName reads the epoch from what pendingName wrote.
func parsePendingName(name string) (manifest.Epoch, error) {
	if fields := strings.Split(name, "-"); len(fields) == 3 {
		epoch, err := manifest.ParseEpoch(fields[0])
		subtask, _ := strconv.Atoi(fields[1])
		n, _ := strconv.Atoi(fields[2])
		if err == nil && subtask >= 0 && n >= 0 && pendingName(epoch, subtask, n) == name {
			return epoch, nil
		}
	}
	return 0, fmt.Errorf("parse name of uncommitted output %q: not <epoch>-<subtask>-<n>", name)
}

// handle is a prepared file as a checkpoint stores it, in JSON. The names have
// no directory in them: they count in whatever output directory the job has
// when it commits.
type handle struct {
	Pending string `json:"pending"`
	Part    string `json:"part"`
	Bytes   int64  `json:"bytes"`
}

func (h handle) encode() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode handle of %s: %w", h.Part, err)
	}
	return b, nil
}

func parseHandle(b []byte) (handle, error) {
	var h handle
	err := json.Unmarshal(b, &h)
	if err == nil {
		_, err = parsePendingName(h.Pending)
	}
	if err == nil {
		_, _, err = parsePartName(h.Part)
	}
	if err == nil && h.Bytes <= 0 {
		err = fmt.Errorf("size of %d bytes", h.Bytes)
	}
	if err != nil {
		return handle{}, fmt.Errorf("decode handle of prepared output: %w", err)
	}
	return h, nil
}
