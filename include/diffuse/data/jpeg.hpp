#pragma once

#include <string>
#include <string_view>

#include "diffuse/base/torch.hpp"
#include "diffuse/data/colour.hpp"

namespace diffuse {

/// Whether a file's bytes begin as those of a JPEG file.
bool is_jpeg(std::string_view bytes);

/// What a JPEG file says before its pixels.
struct JpegHead {
    int64_t width = 0, height = 0;
    bool grey = false;
    std::string exif = "";     ///< Exif data, without the header before them
    std::string xmp = "";      ///< XMP, an XML text
    ColourSpace colours = {};  ///< of its ICC profile
};

/// uint8 [C, H, W], C 1 (greyscale) or 3 (RGB), as they lie in the file.
struct JpegPixels {
    torch::Tensor pixels;
    std::string warning;  ///< the first fault that the decoder met and that changes no pixel; empty: none
};

/// Both throw Error, beginning with `name`, for what is none, is damaged or cut short, or is in CMYK.
JpegHead jpeg_head(std::string_view bytes, const std::string& name);
JpegPixels decode_jpeg(std::string_view bytes, const std::string& name);

}  // namespace diffuse
