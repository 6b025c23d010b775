package manifest_test

import (
	"fmt"

	"github.com/ckpt-io/ckpt/manifest"
)

// A manifest is encoded, stored, and read back; damage does not go unseen.
func Example() {
	m := &manifest.Manifest{
		Job: "wordcount", JobUUID: "7c1f7dbe-6f3e-4d0e-a2b7-2f8f8a0d3c11",
		ID: 17, Epoch: 2, Kind: manifest.Periodic,
	}
	data, err := manifest.Encode(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	back, err := manifest.Decode(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(manifest.ManifestKey(back.ID, back.Epoch))

	data[30]++
	_, err = manifest.Decode(data)
	fmt.Println(err)
	// Output:
	// manifests/000000000017-0000000002.manifest
	// decode manifest: corrupt: digest does not match
}
