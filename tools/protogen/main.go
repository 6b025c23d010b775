// Command protogen compiles a .proto file without protoc: it hands the
// compiled descriptors to protoc-gen-go, the plugin that tools/go.mod pins,
// and writes the Go file that comes back. It is run from the repository's root.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	plugin := flag.String("plugin", "protoc-gen-go", "path of protoc-gen-go")
	in := flag.String("in", "manifest/manifest.proto", "file to compile")
	out := flag.String("out", "manifest/internal/pb", "directory for the generated file")
	flag.Parse()
	if err := run(context.Background(), *plugin, *in, *out); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, plugin, in, out string) error {
	file, err := compile(ctx, in)
	if err != nil {
		return err
	}
	files, err := generate(ctx, plugin, file)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(out, filepath.Base(f.GetName()))
		if err := os.WriteFile(name, []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compile parses the file with its comments, which become doc comments.
func compile(ctx context.Context, path string) (*descriptorpb.FileDescriptorProto, error) {
	c := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{filepath.Dir(path)}},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := c.Compile(ctx, filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", path, err)
	}
	return protoutil.ProtoFromFileDescriptor(files[0]), nil
}

// generate runs the plugin by protoc's protocol: a request on its standard
// input, a response on its standard output.
func generate(ctx context.Context, plugin string, file *descriptorpb.FileDescriptorProto) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{file.GetName()},
		Parameter:      proto.String("paths=source_relative"),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{file},
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", plugin, err)
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer, &resp); err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", plugin, err)
	}
	if resp.GetError() != "" {
		return nil, errors.New(resp.GetError())
	}
	return resp.GetFile(), nil
}
